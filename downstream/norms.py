"""Batch norms over real frames: padding changes no statistic and comes out as 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

CLIP = 10.0  # standard deviations: what a test utterance may differ from those of training


def masked_moments(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, D) and (B, T) -> mean and biased variance of the real frames, one at least; (D,) each."""
    real, count = mask.unsqueeze(-1), mask.sum()  # (B, T, 1)
    mean = features.masked_fill(~real, 0).sum((0, 1)) / count  # (D,)
    variance = (features - mean).square().masked_fill(~real, 0).sum((0, 1)) / count  # (D,)
    return mean, variance


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch norm over the last axis of (B, T, D), with statistics of the real frames alone; padding becomes 0.

    In training the statistics are those of the micro-batch of one process; a single real frame has none, and is
    normalised by the running ones. Without `affine` it learns no weight and bias.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, size: int, affine: bool = True) -> None:
        super().__init__(size, affine=affine)

    def statistics(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance, (D,) each, by which (B, T, D) is normalised."""
        if self.training and mask.sum() > 1:
            return masked_moments(features, mask)
        return self.running_mean, self.running_var

    def deviation(self, mean: Tensor, variance: Tensor) -> Tensor:
        """(D,) standard deviation, never 0."""
        return (variance + self.eps).sqrt()

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """(B, T, D) and (B, T) bool, True = real -> (B, T, D)."""
        padding, from_batch = ~mask.unsqueeze(-1), self.training and mask.sum() > 1  # (B, T, 1)
        if from_batch and self.affine:  # torch's own, a quarter faster than autograd through the moments
            normed = super().forward(features[mask])  # (real frames, D)
            return torch.zeros_like(features, dtype=normed.dtype).masked_scatter(~padding, normed)  # (B, T, D)
        mean, variance = self.statistics(features, mask)
        if from_batch:
            _follow(self, mean.detach(), variance.detach() * mask.sum() / (mask.sum() - 1))
        normed = (features - mean) / self.deviation(mean, variance)  # (B, T, D)
        return (normed * self.weight + self.bias if self.affine else normed).masked_fill(padding, 0)


def input_deviation(mean: Tensor, variance: Tensor) -> Tensor:
    """Standard deviation of features of any magnitude, never 0.

    openSMILE's functionals range from 1e-6 to 1e13, and some are constant: the least deviation is relative to the mean.
    """
    return (variance + (1e-5 * mean).square() + 1e-12).sqrt()


class InputNorm(MaskedBatchNorm):
    """Standardises features of any magnitude; what is more than 10 standard deviations off is clipped."""

    def __init__(self, size: int) -> None:
        super().__init__(size, affine=False)

    def deviation(self, mean: Tensor, variance: Tensor) -> Tensor:
        """See `input_deviation`."""
        return input_deviation(mean, variance)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """See `MaskedBatchNorm`."""
        return super().forward(features, mask).clamp(-CLIP, CLIP)


@torch.no_grad()
def _follow(norm: Any, mean: Tensor, variance: Tensor) -> None:
    """Let the running statistics follow those of the batch, as torch's batch norm does."""
    norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum or 0.0)
    norm.running_var.lerp_(variance.to(norm.running_var), norm.momentum or 0.0)
    norm.num_batches_tracked.add_(1)


class MaskedMapNorm(nn.BatchNorm2d):
    """Batch norm of maps (B, C, T, F), with statistics of the real frames alone; padding becomes 0.

    In training the statistics are those of the micro-batch of one process.
    """

    running_mean: Tensor
    running_var: Tensor

    def forward(self, maps: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """(B, C, T, F) and (B, T) bool, True = real -> (B, C, T, F)."""
        real = mask[:, None, :, None].to(maps.dtype)  # (B, 1, T, 1)
        count = mask.sum() * maps.shape[3]
        if self.training and count > 1:
            found: tuple[Tensor, Tensor, Tensor] = _Normalise.apply(
                maps.float(), self.weight, self.bias, real.float(), count, self.eps
            )
            normed, mean, variance = found
            _follow(self, mean, variance * count / (count - 1))
            return normed
        scale = self.weight * (self.running_var + self.eps).rsqrt()  # (C,)
        shift = self.bias - self.running_mean * scale
        return (maps * scale[:, None, None] + shift[:, None, None]) * real


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
