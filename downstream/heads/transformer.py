"""Self-attention between frames, then attention pooling with multitask outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from undertone.downstream.heads.attention import AttentionHead
from undertone.downstream.self_attention import SelfAttention
from undertone.downstream.task import Task


class TransformerHead(AttentionHead):
    """`attention` with transformer layers before its pooling: each frame is seen in the light of all others.

    Self-attention between frames, as the survey's systems are often described; `attention` alone weighs frames that do
    not know each other. On a pretrained upstream, whose frames do, `attention` is cheaper. The sizes are ours.

    Args:
        num_layers: transformer layers.
        layer_heads: attention heads of each.
        max_distance: frames, after the stride, up to which each distance has a position bias of its own.
        options: of `attention`.
    """

    jitter = 0.1

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        tasks: tuple[Task, ...],
        *,
        num_layers: int = 2,
        layer_heads: int = 4,
        max_distance: int = 64,
        **options: Any,
    ) -> None:
        super().__init__(input_sizes, tasks, **options)
        self.context = SelfAttention(self.projector.out_features, num_layers, layer_heads, self.dropout.p, max_distance)
