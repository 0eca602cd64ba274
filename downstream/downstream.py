"""The part that is trained on a frozen upstream: layer sum and head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from undertone.downstream.head import HeadOutput, build_head, head_class
from undertone.downstream.layer_sum import LayerSum
from undertone.downstream.task import Task
from undertone.upstream.types import HiddenStates


class Downstream(nn.Module):
    """Hidden states (B, L, T, D) -> layer sum -> head -> logits of every task.

    Args:
        num_layers: L of the upstream.
        hidden_size: D of the upstream.
        tasks: what is predicted.
        head: name of the head.
        head_options: its options.
        layer_norm: normalise each layer before the sum.
    """

    def __init__(
        self,
        num_layers: int,
        hidden_size: int,
        tasks: tuple[Task, ...],
        head: str,
        head_options: Mapping[str, Any],
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.layer_sum = LayerSum(num_layers, normalize=layer_norm)
        self.head = build_head(head, {"speech": hidden_size}, tasks, head_options)

    def forward(self, hidden: HiddenStates) -> HeadOutput:
        """Logits, embedding and attention of a batch of hidden states."""
        output: HeadOutput = self.head({"speech": self.layer_sum(hidden)})
        return output

    @torch.no_grad()
    def embedding_size(self) -> int:
        """E of the head's embedding: asked of it, with one frame of silence."""
        states = torch.zeros(1, len(self.layer_sum.logits), 1, self.hidden_size, device=self.layer_sum.logits.device)
        training = self.training
        self.eval()
        size = self(HiddenStates(states, torch.ones(1, dtype=torch.int64, device=states.device))).embedding.shape[1]
        self.train(training)
        return int(size)


def needed_states(head: str, layer_norm: bool) -> Literal["frames", "mean"]:
    """What a downstream must be fed: all frames, or their means where it is linear up to the pooling.

    The mean of normalised states is not the normalised mean, so with `layer_norm` it is frames for every head.
    """
    return "frames" if layer_norm else head_class(head).needs
