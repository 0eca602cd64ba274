"""Batch norm over what is real."""

from __future__ import annotations

from typing import Any

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
        count = mask.sum() * maps.shape[3]
        if self.training and count > 1:
            found: tuple[Tensor, Tensor, Tensor] = _Normalise.apply(
                maps.float(), self.weight, self.bias, real.float(), count, self.eps
            )
            normed, mean, variance = found
            self._follow(mean, variance * count / (count - 1))
            return normed
        scale = self.weight * (self.running_var + self.eps).rsqrt()  # (C,)
        shift = self.bias - self.running_mean * scale
        return (maps * scale[:, None, None] + shift[:, None, None]) * real

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        momentum = self.momentum or 0.0
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class _Normalise(torch.autograd.Function):
    """Batch norm of maps by the statistics of their real frames, with its gradient in closed form (Ioffe & Szegedy
    2015): autograd's way through the dozen operations takes six times as long, and longer than a convolution.
    """

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, real: Tensor, count: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, T, F), weight and bias (C,), real (B, 1, T, 1), count () -> (B, C, T, F), mean and variance (C,)."""
        mean = (maps * real).sum((0, 2, 3)) / count
        centred = (maps - mean[:, None, None]).mul_(real)
        variance = centred.square().sum((0, 2, 3)) / count
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(centred, weight, scale, real, count)
        ctx.mark_non_differentiable(mean, variance)
        normed = (centred * (weight * scale)[:, None, None]).add_(bias[:, None, None]).mul_(real)
        return normed, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """With n values a map, d maps = w s (g - mean g - s^2 x mean(g x)), x = maps - mean, s = 1 / deviation."""
        centred, weight, scale, real, count = ctx.saved_tensors
        gradient = gradient * real
        of_bias = gradient.sum((0, 2, 3))
        of_weight = (gradient * centred).sum((0, 2, 3)) * scale
        along = centred * (scale * of_weight / count)[:, None, None]
        of_maps = gradient.sub_(along).sub_((of_bias / count)[:, None, None]).mul_((weight * scale)[:, None, None])
        return of_maps.mul_(real), of_weight, of_bias, None, None, None
