"""SEW and SEW-D squeeze their frames before the transformer (Wu et al., 2021): hidden states are at half the rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from undertone.upstream.types import length_mask


class SqueezedMask:
    """Forward pre-hook of a transformer block: it attends to an utterance's own squeezed frames.

    An odd last frame is dropped when an utterance is alone. transformers counts it when there is padding behind it,
    and every frame of the utterance then attends to one more.

    Attributes:
        lengths: (B,) int64 squeezed frames of the next input, or None when all are valid. Set before each forward.
    """

    lengths: Tensor | None = None

    def __call__(
        self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Replace `attention_mask`, the second argument, by a (B, 1, 1, T) bool one."""
        if self.lengths is None:
            return None
        mask = length_mask(self.lengths, args[0].shape[1])[:, None, None]  # (B, 1, 1, T)
        return (args[0], mask), {name: value for name, value in kwargs.items() if name != "attention_mask"}


def mask_blocks(blocks: nn.Module) -> list[SqueezedMask]:
    """Hang one `SqueezedMask` before every block; returns it."""
    mask = SqueezedMask()
    for block in blocks.children():
        block.register_forward_pre_hook(mask, with_kwargs=True)
    return [mask]


def squeezed_frames(model: Any, lengths: Tensor) -> Tensor:
    """(B,) samples -> (B,) hidden states: `squeeze_factor` convolution frames each, an incomplete last one dropped."""
    frames = model._get_feat_extract_output_lengths(lengths)
    return torch.div(frames, model.config.squeeze_factor, rounding_mode="floor")
