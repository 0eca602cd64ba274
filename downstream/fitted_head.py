"""Linear heads whose weights a solver of scikit-learn finds; to predict they need PyTorch alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.pooling import masked_mean
from undertone.downstream.task import Task
from undertone.upstream.types import Frames

if TYPE_CHECKING:
    import numpy as np

NEVER = -1e30  # logit of a class that no training utterance has


class FittedHead(Head):
    """Mean over the frames, standardised by the training utterances, then one linear layer a task.

    The trainer gives `fit` all training utterances at once instead of making updates; each task is solved alone.
    Scaler, coefficients and intercepts are buffers and weights like any other.

    Args:
        input_sizes: {stream: D}, one stream.
        tasks: what is predicted.
        C: how much an error counts against the size of the coefficients; small is smooth.
    """

    needs = "mean"
    kinds = ("classification", "regression")

    mean: Tensor
    scale: Tensor

    def __init__(self, input_sizes: Mapping[str, int], tasks: tuple[Task, ...], *, C: float = 1.0) -> None:
        super().__init__(input_sizes, tasks)
        if not C > 0:
            raise ValueError(f"C must be > 0, got {C}. For example head.C=0.01.")
        (input_size,) = input_sizes.values()
        self.C = C
        self.register_buffer("mean", torch.zeros(input_size))
        self.register_buffer("scale", torch.ones(input_size))
        self.outputs = TaskOutputs(input_size, tasks)

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T, D)} -> logits; the embedding is the standardised mean (B, D)."""
        embedding = (masked_mean(self.only_stream(streams)) - self.mean) / self.scale  # (B, D)
        return HeadOutput(self.outputs(embedding), embedding)

    @abstractmethod
    def classifier(self, class_weight: Literal["balanced"] | None) -> Any:
        """An unfitted linear classifier of scikit-learn."""

    @abstractmethod
    def regressor(self) -> Any:
        """An unfitted linear regression of scikit-learn."""

    @torch.no_grad()
    def fit(self, features: np.ndarray, targets: Mapping[str, np.ndarray], balanced: bool = False) -> None:
        """Find scaler, coefficients and intercepts.

        Args:
            features: (N, D), means over the frames of the training utterances.
            targets: {task: (N,)}, class indices (-1 missing) or values (NaN missing).
            balanced: let every class count alike, however many utterances of it there are.
        """
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(features)
        self.mean.copy_(torch.from_numpy(scaler.mean_))
        self.scale.copy_(torch.from_numpy(scaler.scale_))
        standardised = scaler.transform(features)  # (N, D)
        for task in self.tasks:
            truth = targets[task.name]
            known = truth >= 0 if task.has_classes else truth == truth  # NaN is no number
            if len(set(truth[known])) < (2 if task.has_classes else 1):  # nothing to tell apart
                self._put(task, sorted(set(truth[known])), torch.zeros(1, 1), torch.zeros(1))
                continue
            model = self.classifier("balanced" if balanced else None) if task.has_classes else self.regressor()
            model.fit(standardised[known], truth[known])
            coefficients = torch.from_numpy(model.coef_).reshape(-1, features.shape[1])  # (C or 1, D)
            intercepts = torch.as_tensor(model.intercept_).reshape(-1)  # (C or 1,)
            if task.has_classes and len(model.classes_) == 2:  # scikit-learn keeps one row, that of the second class
                coefficients = torch.cat([-coefficients, coefficients]) / 2
                intercepts = torch.cat([-intercepts, intercepts]) / 2
            self._put(task, model.classes_ if task.has_classes else [0], coefficients, intercepts)

    def _put(self, task: Task, classes: Sequence[int], coefficients: Tensor, intercepts: Tensor) -> None:
        """Fill the task's linear layer; a class that is not among `classes` is never predicted."""
        layer: Any = self.outputs.layer(task.name)
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, NEVER if len(classes) else 0.0)
        layer.weight[list(classes)] = coefficients.to(layer.weight)
        layer.bias[list(classes)] = intercepts.to(layer.bias)
