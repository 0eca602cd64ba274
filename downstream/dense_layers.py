"""Dense layers that a ladder can corrupt and reconstruct: batch norm without affine, then scale, shift and ReLU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLIP = 10.0  # deviations: what a test utterance may differ from those of training


def moments(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of the real frames.

    Args:
        features: (B, T, D).
        mask: (B, T) bool, True = real; one at least.

    Returns:
        (D,) and (D,).
    """
    real, count = mask.unsqueeze(-1), mask.sum()  # (B, T, 1)
    mean = features.masked_fill(~real, 0).sum((0, 1)) / count  # (D,)
    variance = (features - mean).square().masked_fill(~real, 0).sum((0, 1)) / count  # (D,)
    return mean, variance


class PlainNorm(nn.BatchNorm1d):
    """Batch norm over the last axis of (B, T, D) without affine, over the real frames alone; padding becomes 0.

    In training the statistics are those of the micro-batch of one process; a single real frame has none, and is
    normalised by the running ones.

    Args:
        size: D.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, size: int) -> None:
        super().__init__(size, affine=False)

    def statistics(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance, (D,) each, by which (B, T, D) is normalised."""
        if self.training and mask.sum() > 1:
            return moments(features, mask)
        return self.running_mean, self.running_var

    def spread(self, mean: Tensor, variance: Tensor) -> Tensor:
        """(D,) standard deviation, never 0."""
        return (variance + self.eps).sqrt()

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise.

        Args:
            features: (B, T, D).
            mask: (B, T) bool, True = real.
        """
        mean, variance = self.statistics(features, mask)
        if self.training and mask.sum() > 1:
            self._follow(mean.detach(), variance.detach() * mask.sum() / (mask.sum() - 1))
        return ((features - mean) / self.spread(mean, variance)).masked_fill(~mask.unsqueeze(-1), 0)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Let the running statistics follow those of the batch, as torch's batch norm does."""
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum or 0.0)
        self.running_var.lerp_(variance.to(self.running_var), self.momentum or 0.0)


def input_spread(mean: Tensor, variance: Tensor) -> Tensor:
    """Standard deviation of features of any magnitude, never 0.

    openSMILE's functionals range from 1e-6 to 1e13, and some are constant: the least deviation is relative to the mean.
    """
    return (variance + (1e-5 * mean).square() + 1e-12).sqrt()


class InputNorm(PlainNorm):
    """Standardises features of any magnitude; what lies further out than 10 deviations is clipped."""

    def spread(self, mean: Tensor, variance: Tensor) -> Tensor:
        """See `input_spread`."""
        return input_spread(mean, variance)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """See `PlainNorm`."""
        return super().forward(features, mask).clamp(-CLIP, CLIP)


class DenseLayer(nn.Module):
    """h -> z = norm(W h) -> ReLU(gamma (z + beta)), the encoder layer of Rasmus et al. 2015 (arXiv 1507.02672, eq. 2).

    Args:
        input_size: size of h.
        output_size: size of z.
    """

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, output_size, bias=False)
        self.norm = PlainNorm(output_size)
        self.gamma = nn.Parameter(torch.ones(output_size))
        self.beta = nn.Parameter(torch.zeros(output_size))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and (B, T) -> (B, T, H)."""
        z: Tensor = self.norm(self.linear(hidden), mask)  # (B, T, H)
        return (self.gamma * (z + self.beta)).relu()


class DenseLayers(nn.Module):
    """Standardised features through several dense layers, frame by frame.

    Args:
        input_size: D.
        hidden_size: H of every layer.
        num_layers: how many.
        dropout: of the standardised features.

    Raises:
        ValueError: no layer.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be >= 1, got {num_layers}; without hidden layers take head=linear.")
        sizes = [input_size] + [hidden_size] * num_layers
        self.norm = InputNorm(input_size)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(DenseLayer(*pair) for pair in zip(sizes, sizes[1:], strict=False))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and (B, T) -> (B, T, H)."""
        hidden: Tensor = self.dropout(self.norm(features, mask))
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return hidden
