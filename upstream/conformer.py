"""Position embeddings of conformers, made for the batch at hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def _forget(module: Any, args: tuple[Any, ...]) -> None:
    module.cached_sequence_length = None


def _usable(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.clone() if output.is_inference() and not torch.is_inference_mode_enabled() else output


def forget_positions(model: PreTrainedModel) -> None:
    """Keep position embeddings that `torch.inference_mode` made from being met again in training.

    transformers caches them between calls; autograd refuses a tensor of inference mode, so that training would stop
    after an evaluation that had seen a batch of the same length. A cached one may also be on another device.
    """
    embed: Any = model.get_submodule("encoder").embed_positions
    if embed is not None:
        embed.register_forward_pre_hook(_forget)
        embed.register_forward_hook(_usable)
