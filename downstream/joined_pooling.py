"""Poolings by name, one or several side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from undertone.discovery import nearest
from undertone.downstream.attention_pooling import (
    AttentiveStatisticsPooling,
    LearnedQueryPooling,
    MultiHeadPooling,
    SelfAttentionPooling,
    StructuredPooling,
)
from undertone.downstream.pooling import MeanPooling, Pooled, StatisticsPooling
from undertone.upstream.types import Frames

POOLINGS: dict[str, Callable[[int, int, float], nn.Module]] = {
    "mean": lambda size, num_heads, penalty: MeanPooling(size),
    "statistics": lambda size, num_heads, penalty: StatisticsPooling(size),
    "attention": lambda size, num_heads, penalty: SelfAttentionPooling(size),
    "attentive_statistics": lambda size, num_heads, penalty: AttentiveStatisticsPooling(size),
    "multihead": lambda size, num_heads, penalty: MultiHeadPooling(size, num_heads),
    "queries": lambda size, num_heads, penalty: LearnedQueryPooling(size, num_heads),
    "structured": lambda size, num_heads, penalty: StructuredPooling(size, num_heads, penalty),
}


class JoinedPooling(nn.Module):
    """The vectors of several poolings of the same frames, side by side.

    Args:
        names: of `POOLINGS`, joined by `+`: `mean`, `attention+statistics`.
        input_size: D.
        num_heads: heads of `multihead` and `queries`, rows of `structured`.
        penalty: of `structured`.

    Raises:
        ValueError: an unknown name, the same one twice, or heads that do not divide D.
    """

    def __init__(self, names: str, input_size: int, num_heads: int = 4, penalty: float = 0.3) -> None:
        super().__init__()
        chosen = names.split("+")
        for name in chosen:
            if name not in POOLINGS:
                raise ValueError(f"Unknown pooling {name!r}.{nearest(name, POOLINGS)} Join several with +.")
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"Each pooling can be joined once, got {names!r}.")
        parts: dict[str, Any] = {name: POOLINGS[name](input_size, num_heads, penalty) for name in chosen}
        self.parts = nn.ModuleDict(parts)
        self.output_size = sum(part.output_size for part in parts.values())

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, output_size); the attention is that of the first part that has one."""
        pooled = [part(frames) for part in self.parts.values()]
        attention = next((part.attention for part in pooled if part.attention is not None), None)
        losses = {name: loss for part in pooled for name, loss in part.losses.items()}
        return Pooled(torch.cat([part.vector for part in pooled], dim=-1), attention, losses)
