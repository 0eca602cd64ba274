"""The learned weighted sum of an upstream's layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from undertone.upstream.types import Frames, HiddenStates


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
        self.fixed = False

    def fix(self, weights: Sequence[float]) -> None:
        """Learn no more: keep these L weights, and take states that they have mixed already, (B, 1, T, D), as well."""
        self.logits.data = torch.tensor(weights).log()
        self.logits.requires_grad_(False)
        self.fixed = True

    def layer_weights(self) -> Tensor:
        """(L,) weights, each > 0, summing to 1."""
        return self.logits.softmax(0)

    def forward(self, hidden: HiddenStates) -> Frames:
        """Mix the layers.

        Raises:
            ValueError: the states have another number of layers than the layer sum.
        """
        num_layers = hidden.states.shape[1]
        if self.fixed and num_layers == 1:
            return Frames(hidden.states[:, 0], hidden.lengths)  # (B, T, D)
        if num_layers != len(self.logits):
            raise ValueError(f"The layer sum was built for {len(self.logits)} layers, got states of {num_layers}.")
        states = hidden.states
        if self.normalize:
            states = F.layer_norm(states, (int(states.shape[-1]),))  # a number for the tracer too
        if num_layers == 1:
            return Frames(states[:, 0], hidden.lengths)  # (B, T, D)
        weights = self.layer_weights().to(states.dtype).expand(states.shape[0], 1, -1)  # (B, 1, L)
        features = torch.bmm(weights, states.flatten(2))  # (B, 1, T D); einsum copies the states, ten times as slow
        return Frames(features.reshape(states[:, 0].shape), hidden.lengths)
