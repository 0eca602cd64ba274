"""Denoising functions of a ladder: z~ and the signal from above u -> an estimate of the clean z, unit by unit."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class GaussianDenoiser(nn.Module):
    """g = (z~ - mu(u)) v(u) + mu(u), optimal for a Gaussian z (Rasmus et al. 2015, arXiv 1507.02672, eq. 8-10).

    mu(u) = a1 sigmoid(a2 u + a3) + a4 u + a5 and v(u) = a6 sigmoid(a7 u + a8) + a9 u + a10, ten numbers a unit; a2 and
    a7 start at 1, all others at 0, so that g starts at 0.

    Args:
        size: number of units m.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        start = torch.zeros(10, size)
        start[[1, 6]] = 1.0
        self.coefficients = nn.Parameter(start)

    def forward(self, noisy: Tensor, above: Tensor) -> Tensor:
        """z~ and u, (..., m) each -> (..., m)."""
        a1, a2, a3, a4, a5, a6, a7, a8, a9, a10 = self.coefficients
        mean = a1 * (a2 * above + a3).sigmoid() + a4 * above + a5  # (..., m)
        share = a6 * (a7 * above + a8).sigmoid() + a9 * above + a10  # (..., m)
        estimate: Tensor = (noisy - mean) * share + mean
        return estimate


class MlpDenoiser(nn.Module):
    """g = MLP([u, z~, u z~]) with 4 hidden units, the same for all units: as in Parthasarathy & Busso's replication.

    Args:
        size: number of units m; the MLP does not depend on it.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.1), nn.Linear(4, 1))

    def forward(self, noisy: Tensor, above: Tensor) -> Tensor:
        """z~ and u, (..., m) each -> (..., m)."""
        estimate: Tensor = self.layers(torch.stack([above, noisy, above * noisy], -1)).squeeze(-1)
        return estimate


DENOISERS: dict[Literal["gaussian", "mlp"], type[GaussianDenoiser] | type[MlpDenoiser]] = {
    "gaussian": GaussianDenoiser,
    "mlp": MlpDenoiser,
}
