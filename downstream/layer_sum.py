"""The learned weighted sum of an upstream's layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from undertone.upstream.types import Frames, HiddenStates, PackedFrames, StoredStates

BLOCK = 256  # frames that are summed at once where states come as they are stored


class LayerSum(nn.Module):
    """Hidden states (B, L, T, D) -> frames (B, T, D): sum over l of softmax(layer logits)_l * states_l.

    The layer logits start at zero, so the sum starts as the plain mean of the layers (ELMo, Peters et al. 2018;
    SUPERB, Yang et al. 2021). The weight of an only layer is 1 and learns nothing, so that no gradient is computed for
    what an acoustic front-end gives: before a convolution it costs as much as that of the weights.

    Args:
        num_layers: L, layer 0 included.
        normalize: layer-normalise every frame of every layer without affine first (s3prl's `normalize`; off in SUPERB).
    """

    def __init__(self, num_layers: int, normalize: bool = False) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_layers), requires_grad=num_layers > 1)
        self.normalize = normalize
        self.selected: int | None = None

    def select(self, layer: int) -> None:
        """Learn no more: take this layer alone, its weight exactly 1, also out of states that hold no other."""
        self.logits.data = torch.tensor([float(number == layer) for number in range(len(self.logits))]).log()
        self.logits.requires_grad_(False)
        self.selected = layer

    def layer_weights(self) -> Tensor:
        """(L,) weights, summing to 1; each > 0, unless one layer was selected."""
        return self.logits.softmax(0)

    def forward(self, hidden: HiddenStates) -> Frames:
        """Mix the layers.

        Raises:
            ValueError: the states have another number of layers than the layer sum.
        """
        weights = self.layer_weights()
        rows = hidden.rows if isinstance(hidden, StoredStates) and weights.device.type == "cpu" else None
        num_layers = (hidden.states if rows is None else rows[0][None]).shape[1]
        if num_layers != len(weights) and (self.selected is None or num_layers != 1):
            raise ValueError(f"The layer sum was built for {len(weights)} layers, got states of {num_layers}.")
        if rows is not None and not self.normalize:
            summed = _StoredSum.apply(weights if num_layers > 1 else weights.new_ones(1), *rows)  # (N, D)
            return PackedFrames(summed, hidden.lengths)
        states = hidden.states if hidden.states.requires_grad else hidden.states.to(weights.dtype)
        if self.normalize:
            states = F.layer_norm(states, (int(states.shape[-1]),))  # a number for the tracer too
        if num_layers == 1:
            return Frames(states[:, 0], hidden.lengths)  # (B, T, D)
        if torch.compiler.is_compiling():  # a graph for any number of frames takes no view that joins them to features
            return Frames((states * weights.to(states.dtype)[:, None, None]).sum(1), hidden.lengths)
        weights = weights.to(states.dtype).expand(states.shape[0], 1, -1)  # (B, 1, L)
        features = torch.bmm(weights, states.flatten(2))  # (B, 1, T D); einsum copies the states, ten times as slow
        return Frames(features.reshape(states[:, 0].shape), hidden.lengths)


class _StoredSum(torch.autograd.Function):
    """sum_l w_l s_l of stored states in the precision of the weights.

    A few frames are converted, used and forgotten while they lie in the processor's cache, in both directions: a padded
    batch in float32 would be written and read whole, which takes several times as long as the sum.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, *rows: Tensor) -> Tensor:
        """(L,), (L, T_i, D) of any precision -> (N, D), the frames of one utterance after the other."""
        ctx.rows = rows
        features = weights.new_empty(sum(row.shape[1] for row in rows), rows[0].shape[2])
        with torch.autocast("cpu", enabled=False):
            for place, block in _blocks(rows, weights):
                torch.mv(block.flatten(1).T, weights, out=features[place].view(-1))
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_features: Tensor) -> tuple[Tensor | None, ...]:
        """(N, D) -> (L,)."""
        d_weights = d_features.new_zeros(len(ctx.rows[0]))
        with torch.autocast("cpu", enabled=False):
            for place, block in _blocks(ctx.rows, d_features):
                d_weights.addmv_(block.flatten(1), d_features[place].reshape(-1))
        return d_weights, *(None for _ in ctx.rows)


def _blocks(rows: Sequence[Tensor], like: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """(places among all frames, (L, up to BLOCK, D) in the precision of `like`), all in one memory, one by one."""
    num_layers, _, size = rows[0].shape
    memory, before = like.new_empty(num_layers * BLOCK * size), 0
    for row in rows:
        for start in range(0, row.shape[1], BLOCK):
            block = row[:, start : start + BLOCK]
            place = slice(before + start, before + start + block.shape[1])
            yield place, memory[: block.numel()].view(block.shape).copy_(block)
        before += row.shape[1]
