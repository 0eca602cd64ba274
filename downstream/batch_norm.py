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


class MaskedMapNorm(nn.BatchNorm2d):
    """Batch norm of maps (B, C, T, F), with statistics of the real frames alone; padding becomes 0.

    In training the statistics are those of the micro-batch of one process.
    """

    running_mean: Tensor
    running_var: Tensor

    def forward(self, maps: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise.

        Args:
            maps: (B, C, T, F).
            mask: (B, T) bool, True = real.
        """
        real = mask[:, None, :, None].to(maps.dtype)  # (B, 1, T, 1)
        mean, variance = self.running_mean, self.running_var
        count = mask.sum() * maps.shape[3]
        if self.training and count > 1:
            # By weights: picking the real frames and putting them back costs more than the convolution.
            mean = (maps * real).sum((0, 2, 3)) / count  # (C,)
            variance = ((maps - mean[:, None, None]).square() * real).sum((0, 2, 3)) / count  # (C,)
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()  # (C,)
        shift = self.bias - mean * scale  # (C,)
        return (maps * scale[:, None, None] + shift[:, None, None]) * real

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        momentum = self.momentum or 0.0
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
