"""Weights of the tasks that are learned with them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from undertone.downstream.task import Task

BOUND = 5.0


class UncertaintyWeights(nn.Module):
    """A learned s = log sigma^2 a task: exp(-s) L + s / 2, for a regression exp(-s) L / 2 + s / 2; s starts at 0.

    Kendall, Gal & Cipolla 2018 (arXiv 1705.07115, eq. 7 and 10). 1 - CCC is no likelihood and can come near 0, where s
    would run away: `clamp` keeps it in [-5, 5]. Train s without weight decay.

    Args:
        tasks: what is weighed.
    """

    def __init__(self, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.position = {task.name: position for position, task in enumerate(tasks)}
        self.log_variances = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, task: Task, loss: Tensor, share: float = 1.0) -> Tensor:
        """Weigh one task's loss.

        Args:
            task: one of the tasks.
            loss: (), this process' and micro-batch's share of the mean over the global batch.
            share: how much of the term s / 2 is added here; the shares of a global batch sum to 1.
        """
        log_variance = self.log_variances[self.position[task.name]]
        factor = 1.0 if task.has_classes else 0.5
        return factor * (-log_variance).exp() * loss + 0.5 * share * log_variance

    @torch.no_grad()
    def clamp(self) -> None:
        """Put s back into its bounds; after an update."""
        self.log_variances.clamp_(-BOUND, BOUND)
