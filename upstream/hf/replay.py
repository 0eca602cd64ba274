"""The top blocks of an upstream on stored hidden states, so that a frozen prefix is not computed again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from undertone.upstream.hf.upstream import FamilyUpstream, HFUpstream
from undertone.upstream.types import HiddenStates, length_mask


def can_replay(upstream: HFUpstream, top: int) -> bool:
    """Whether there is a prefix below the last `top` blocks, fed with the frames of the feature encoder."""
    if not isinstance(upstream, FamilyUpstream):
        return False
    one_by_one = upstream.family.front_end == ("feature_extractor",)
    squeezed = hasattr(upstream.model.config, "squeeze_factor")  # SEW
    return top < upstream.num_layers - 1 and one_by_one and not squeezed


def replay_top(upstream: FamilyUpstream, stored: HiddenStates, top: int) -> HiddenStates:
    """Run the last `top` blocks on what the store holds of the block before them.

    (B, L, T, D) of any precision -> (B, L, T, D), the last `top` layers (1..L - 2) computed, the others as stored.
    Everything but the feature encoder and the lower blocks is transformers' own forward: attention mask, position bias,
    final norm. The lower blocks hand out the stored states instead of computing them.
    """
    config = upstream.model.config
    stored = stored.to(stored.states.device, next(upstream.model.parameters()).dtype)
    num_samples = (stored.lengths - 1) * math.prod(config.conv_stride) + upstream.receptive_field
    samples = stored.states.new_zeros(len(num_samples), int(num_samples.max()))
    mask = length_mask(num_samples, samples.shape[1]).long()
    with _lower_blocks_replaced(upstream, stored, top):
        layers = upstream.model(samples, attention_mask=mask, output_hidden_states=True).hidden_states
    computed = torch.stack(layers[-top:], 1)  # (B, top, T, D)
    computed = computed.masked_fill(~stored.mask[:, None, :, None], 0)
    return HiddenStates(torch.cat([stored.states[:, :-top], computed], 1), stored.lengths)


@contextmanager
def _lower_blocks_replaced(upstream: FamilyUpstream, stored: HiddenStates, top: int) -> Iterator[None]:
    """While it lasts, the feature encoder gives zeros and block i of the prefix gives stored layer i + 1."""
    model = upstream.model
    front_end = model.get_submodule("feature_extractor")
    prefix = list(model.get_submodule(upstream.family.blocks).children())[:-top]
    batch, _, frames, _ = stored.states.shape
    silence = stored.states.new_zeros(batch, model.config.conv_dim[-1], frames)
    try:
        front_end.forward = lambda samples: silence
        for index, block in enumerate(prefix):
            block.forward = partial(_stored_layer, block, stored.states[:, index + 1])
        yield
    finally:
        for module in (front_end, *prefix):
            module.__dict__.pop("forward", None)


def _stored_layer(block: nn.Module, state: Tensor, hidden_states: Tensor, *_: Any, **inputs: Any) -> Any:
    """What a block returns; WavLM's also hand on the position bias, which the first one computes."""
    if "position_bias" not in inputs:
        return state
    bias = inputs["position_bias"]
    if bias is None:
        batch, frames = state.shape[:2]
        attention: Any = block.attention
        bias = attention.compute_bias(frames, frames)  # (heads, T, T)
        bias = bias.unsqueeze(0).repeat(batch, 1, 1, 1).view(-1, frames, frames)  # (B * heads, T, T)
    return state, bias
