"""Frames -> one vector an utterance. Padding frames never count."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from undertone.upstream.types import Frames


def masked_mean(frames: Frames) -> Tensor:
    """(B, T, D) -> (B, D), the mean over each row's real frames."""
    mask = frames.mask.unsqueeze(-1)  # (B, T, 1)
    total = frames.features.masked_fill(~mask, 0).sum(1)  # (B, D)
    return total / frames.lengths.unsqueeze(-1).to(total.dtype)


def masked_attention(scores: Tensor, frames: Frames) -> Tensor:
    """(B, T) raw scores -> (B, T) attention: softmax over the real frames, exactly 0 on padding."""
    return scores.masked_fill(~frames.mask, -torch.inf).softmax(1)


class MeanPooling(nn.Module):
    """Mean over the real frames."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = input_size

    def forward(self, frames: Frames) -> tuple[Tensor, None]:
        """(B, T, D) -> (B, D), and no attention."""
        return masked_mean(frames), None


class StatisticsPooling(nn.Module):
    """[mean; standard deviation] over the real frames (Snyder et al. 2017), with the biased variance and an eps.

    The eps of 1e-5 keeps the gradient finite for a clip of one frame, where the deviation is 0.
    """

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = 2 * input_size

    def forward(self, frames: Frames) -> tuple[Tensor, None]:
        """(B, T, D) -> (B, 2 D), and no attention."""
        mean = masked_mean(frames)  # (B, D)
        squares = (frames.features - mean.unsqueeze(1)) ** 2  # (B, T, D)
        variance = masked_mean(Frames(squares, frames.lengths))  # (B, D)
        return torch.cat([mean, (variance + 1e-5).sqrt()], dim=-1), None


class SelfAttentionPooling(nn.Module):
    """Self-attentive pooling: e_t = v' tanh(W h_t + b), a = softmax(e) over the real frames, sum of a_t h_t.

    One head of Lin et al. 2017 (arXiv 1703.03130, eq. 5-7), with a bias.

    Args:
        input_size: D.
        attention_size: rows of W.
    """

    def __init__(self, input_size: int, attention_size: int = 128) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(input_size, attention_size), nn.Tanh(), nn.Linear(attention_size, 1, bias=False)
        )
        self.output_size = input_size

    def forward(self, frames: Frames) -> tuple[Tensor, Tensor]:
        """(B, T, D) -> (B, D), and the attention (B, T), which sums to 1 over the real frames."""
        attention = masked_attention(self.score(frames.features).squeeze(-1), frames)  # (B, T)
        features = frames.features.masked_fill(~frames.mask.unsqueeze(-1), 0)
        return torch.einsum("bt,btd->bd", attention, features), attention
