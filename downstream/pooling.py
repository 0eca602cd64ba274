"""Frames -> one vector an utterance. Padding frames never count."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from undertone.upstream.types import Frames


@dataclass(frozen=True)
class Pooled:
    """What a pooling returns.

    Attributes:
        vector: (B, P), P = the pooling's `output_size`.
        attention: (B, T), the weight of each frame, averaged over the pooling's heads; it sums to 1 over the real
            frames and is zero on padding. None where every frame counts alike.
        losses: {name: (sum (), count ())}, what the pooling wants minimised besides the tasks' losses.
    """

    vector: Tensor
    attention: Tensor | None = None
    losses: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


def zero_padding(frames: Frames) -> Tensor:
    """(B, T, D) features, exactly 0 on padding."""
    return frames.features.masked_fill(~frames.mask.unsqueeze(-1), 0)


def masked_mean(frames: Frames) -> Tensor:
    """(B, T, D) -> (B, D), the mean over each row's real frames."""
    total = zero_padding(frames).sum(1)  # (B, D)
    return total / frames.lengths.unsqueeze(-1).to(total.dtype)


def masked_attention(scores: Tensor, frames: Frames) -> Tensor:
    """(B, T) or (B, T, K) raw scores -> attention of that shape: softmax over the real frames, exactly 0 on padding."""
    mask = frames.mask if scores.ndim == 2 else frames.mask.unsqueeze(-1)
    return scores.masked_fill(~mask, -torch.inf).softmax(1)


def weighted_statistics(weights: Tensor, features: Tensor) -> Tensor:
    """[mean; standard deviation] under weights that sum to 1 over time.

    The deviation is sqrt(sum_t w_t (h_t - mean)^2 + 1e-5): the gradient stays finite where it is 0.

    Args:
        weights: (B, T, 1) or, a weight for each feature, (B, T, D); 0 on padding.
        features: (B, T, D), finite on padding.

    Returns:
        (B, 2 D).
    """
    mean = (weights * features).sum(1)  # (B, D)
    variance = (weights * (features - mean.unsqueeze(1)) ** 2).sum(1)  # (B, D)
    return torch.cat([mean, (variance + 1e-5).sqrt()], dim=-1)


class MeanPooling(nn.Module):
    """Mean over the real frames."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, D)."""
        return Pooled(masked_mean(frames))


class StatisticsPooling(nn.Module):
    """[mean; standard deviation] over the real frames (Snyder et al. 2017), with the biased variance and an eps."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = 2 * input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, 2 D)."""
        features = zero_padding(frames)
        weights = frames.mask.to(features.dtype) / frames.lengths.unsqueeze(-1)  # (B, T)
        return Pooled(weighted_statistics(weights.unsqueeze(-1), features))
