"""Self-attention between frames: every frame attends to every other one of its utterance."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from undertone.downstream.pooling import zero_padding
from undertone.upstream.types import Frames


class SelfAttention(nn.Module):
    """Transformer layers over the real frames, with relative positions: frames in, frames of the same size out.

    Multi-head attention and a feed-forward layer (Vaswani et al. 2017, arXiv 1706.03762), each behind a layer norm and
    added to its input (Xiong et al. 2020, arXiv 2002.04745). A frame knows the others by how far away they are: each
    head of each layer adds a learned number to the score of a distance (Raffel et al. 2020, arXiv 1910.10683, without
    their logarithmic buckets); distances over `max_distance` share one.

    Args:
        size: D, of the frames.
        num_layers: of attention and feed-forward, each over the one before.
        num_heads: into which D is divided.
        dropout: of what each layer adds.
        max_distance: frames, the largest distance with a number of its own.

    Raises:
        ValueError: num_heads that does not divide D, or a count below 1.
    """

    def __init__(
        self, size: int, num_layers: int = 1, num_heads: int = 4, dropout: float = 0.0, max_distance: int = 64
    ) -> None:
        super().__init__()
        if num_layers < 1 or max_distance < 1:
            raise ValueError(f"num_layers and max_distance must be >= 1, got {num_layers} and {max_distance}.")
        if num_heads < 1 or size % num_heads:
            raise ValueError(f"num_heads must divide the {size} features of a frame, got {num_heads}.")
        self.max_distance = max_distance
        self.layers = nn.ModuleList(_Layer(size, num_heads, dropout, max_distance) for _ in range(num_layers))
        self.norm = nn.LayerNorm(size)

    def forward(self, frames: Frames) -> Frames:
        """(B, T, D) -> (B, T, D), zeros on padding."""
        positions = torch.arange(frames.features.shape[1], device=frames.features.device)  # (T,)
        away = (positions[None, :] - positions[:, None]).clamp(-self.max_distance, self.max_distance)
        away = away + self.max_distance  # (T, T), from 0
        padding = ~frames.mask[:, None, None, :]  # (B, 1, 1, T)
        features = zero_padding(frames)
        for layer in self.layers:
            features = layer(features, away, padding)
        return Frames(zero_padding(Frames(self.norm(features), frames.lengths)), frames.lengths)


class _Layer(nn.Module):
    """h + attention(norm(h)), then h + feed-forward(norm(h))."""

    def __init__(self, size: int, num_heads: int, dropout: float, max_distance: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.forward_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.inputs, self.output = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.distance = nn.Parameter(0.02 * torch.randn(num_heads, 2 * max_distance + 1))
        self.feed_forward = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, away: Tensor, padding: Tensor) -> Tensor:
        """(B, T, D), distances (T, T), padding (B, 1, 1, T) -> (B, T, D)."""
        split = self.inputs(self.attention_norm(features)).unflatten(-1, (3, self.num_heads, -1))  # (B, T, 3, H, D / H)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # (B, H, T, D / H) each
        bias = self.distance[:, away].masked_fill(padding, -torch.inf)  # (B, H, T, T)
        attended = F.scaled_dot_product_attention(query, key, value, bias)  # (B, H, T, D / H)
        features = features + self.dropout(self.output(attended.transpose(1, 2).flatten(2)))  # (B, T, D)
        return features + self.dropout(self.feed_forward(self.forward_norm(features)))
