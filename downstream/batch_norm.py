"""Batch norm over what is real."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch norm over the last axis of (B, T, D), with statistics of the real frames alone; padding becomes 0.

    In training the statistics are those of the micro-batch of one process. Fewer than two real frames have none, and
    are normalised by the running ones.
    """

    running_mean: Tensor
    running_var: Tensor

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise.

        Args:
            features: (B, T, D).
            mask: (B, T) bool, True = real.
        """
        padding = ~mask.unsqueeze(-1)  # (B, T, 1)
        if not self.training or mask.sum() < 2:
            scale = self.weight * (self.running_var + self.eps).rsqrt()
            return ((features - self.running_mean) * scale + self.bias).masked_fill(padding, 0)
        normed = super().forward(features[mask])  # (real frames, D)
        return torch.zeros_like(features, dtype=normed.dtype).masked_scatter(~padding, normed)  # (B, T, D)
