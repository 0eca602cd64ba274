"""A mean teacher: the outputs on unlabelled speech should be those of a moving average of the weights.

Tarvainen & Valpola 2017 (arXiv 1703.01780). The average is more often right than the weights that are trained, so that
what it says of unlabelled speech is a target; it is also what predicts.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from undertone.downstream.head import HeadOutput
from undertone.downstream.network import Downstream
from undertone.downstream.task import Task
from undertone.upstream.dropout import batch_number
from undertone.upstream.types import HiddenStates, StreamBatch

DECAY = 0.99  # of the average; the paper's while the weights still change fast
RAMP = 0.2  # fraction of the training over which the consistency loss rises


class MeanTeacherDownstream(Downstream):
    """Layer sum -> head with a moving average of their weights; in eval mode the average predicts.

    Takes the arguments of a `Downstream`, and the weight of the consistency loss: the mean over the unlabelled
    utterances and the tasks of the squared difference between what is trained and the average, of probabilities or of
    values.
    """

    def __init__(self, *shape: Any, weight: float, **settings: Any) -> None:
        super().__init__(*shape, **settings)
        self.weight = weight
        for name, value in list(self.named_parameters()):
            self.register_buffer(_buffer(name), value.detach().clone())
        self.progress = nn.Buffer(torch.zeros((), dtype=torch.float64))  # fraction of the training that is done
        self.steps = nn.Buffer(torch.zeros((), dtype=torch.int64))  # updates

    def forward(
        self, hidden: HiddenStates | StreamBatch, unlabelled: HiddenStates | StreamBatch | None = None
    ) -> HeadOutput:
        """Logits of `hidden`; in training with the consistency loss of `unlabelled`."""
        if not self.training:
            return self._average(hidden)
        output = super().forward(hidden)
        if unlabelled is None:
            return output
        with batch_number(1):
            ours = super().forward(unlabelled)
        self.eval()  # no dropout, and no statistics of a batch
        with torch.no_grad():
            target = self._average(unlabelled)
        self.train()
        names = [(task, ours.logits[task.name], target.logits[task.name]) for task in self.head.tasks]
        total = torch.stack([_difference(*one) for one in names]).sum()
        count = torch.tensor(float(len(ours.embedding)), device=ours.embedding.device)
        loss = self.weight * self.ramp() * total / len(self.head.tasks)
        return replace(output, losses=output.losses | {"consistency": (loss, count)})

    def ramp(self) -> float:
        """The paper's exp(-5 (1 - x)^2), x the fraction of the rise that is done."""
        return math.exp(-5 * (1 - min(1.0, float(self.progress) / RAMP)) ** 2)

    def after_update(self, progress: float) -> None:
        """Move the average towards the weights; at first faster than by `DECAY`, so that the initial ones fade."""
        self.progress.fill_(progress)
        decay = min(DECAY, (1 + float(self.steps)) / (10 + float(self.steps)))
        self.steps.add_(1)
        for name, value in self._trained().items():
            self.get_buffer(_buffer(name)).lerp_(value.detach(), 1 - decay)

    def take_average(self) -> None:
        """Make the average the weights, as a model is saved with them."""
        with torch.no_grad():
            for name, value in self._trained().items():
                value.copy_(self.get_buffer(_buffer(name)))

    def _trained(self) -> dict[str, nn.Parameter]:
        """{name: weight} of what is averaged; weights that do not learn, as of a selected layer, are what they are."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def _average(self, hidden: HiddenStates | StreamBatch) -> HeadOutput:
        weights = {f"module.{name}": self.get_buffer(_buffer(name)) for name in self._trained()}
        return functional_call(_Plain(self), weights, (hidden,))


class _Plain(nn.Module):
    """The forward pass of a `Downstream`, for `functional_call`."""

    def __init__(self, module: Downstream) -> None:
        super().__init__()
        self.module = module

    def forward(self, hidden: HiddenStates | StreamBatch) -> HeadOutput:
        return Downstream.forward(self.module, hidden)


def _difference(task: Task, ours: Tensor, target: Tensor) -> Tensor:
    """Sum over (B, C) or (B, T, C) outputs of the squared differences, of probabilities where there are classes."""
    if task.has_classes:
        ours, target = ours.float().softmax(-1), target.float().softmax(-1)
    difference = (ours.float() - target.float()).square().mean(-1)  # (B,) or (B, T)
    return difference.sum() if difference.ndim == 1 else difference.mean(1).sum()


def _buffer(name: str) -> str:
    return "average_" + name.replace(".", "_")
