"""What the embedding must not tell: an adversary that learns it, through a gradient that is turned round."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from undertone.downstream.head import TaskOutputs
from undertone.downstream.task import Task


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(values: Tensor, strength: float) -> Tensor:
    """The same values; their gradient is multiplied by -strength (Ganin & Lempitsky 2015, arXiv 1409.7495)."""
    same: Tensor = _Reversal.apply(values, strength)
    return same


def reversal_strength(progress: float, maximum: float = 1.0) -> float:
    """Maximum * (2 / (1 + exp(-10 p)) - 1) at the share p of the training that is done (Ganin & Lempitsky, eq. 14)."""
    return maximum * (2 / (1 + math.exp(-10 * progress)) - 1)


class Adversary(nn.Module):
    """Predicts the adversarial tasks from the embedding, as well as it can; the embedding learns to prevent it.

    It is part of the training, not of the model. That it fails does not show that the embedding tells nothing: train a
    fresh probe on the embedding for that.

    Args:
        embedding_size: E.
        tasks: what it predicts.
    """

    def __init__(self, embedding_size: int, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.hidden = nn.Linear(embedding_size, embedding_size)
        self.outputs = TaskOutputs(embedding_size, tasks)

    def forward(self, embedding: Tensor, strength: float) -> dict[str, Tensor]:
        """(B, E) -> {task: (B, C)}."""
        logits: dict[str, Tensor] = self.outputs(self.hidden(reverse_gradient(embedding, strength)).relu())
        return logits
