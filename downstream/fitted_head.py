"""Linear heads whose weights a solver finds, in min(N, D) dimensions; to predict they need PyTorch alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.pooling import masked_mean
from undertone.downstream.task import Task
from undertone.upstream.types import Frames

NEVER = -1e30  # logit of a class that no training utterance has
JITTER = 1e-11  # of the mean squared length of a standardised utterance: makes a singular Gram matrix definite

Item = TypeVar("Item")
Result = TypeVar("Result")
Plane = tuple[np.ndarray, np.ndarray]
"""Coefficients (C, R) and intercepts (C,) of a linear layer."""


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work` of each item, in their order; as many at once as torch has threads, each with linear algebra on one core.

    A solver's matrices are read once for every few products, so that its products gain little from a second core, and
    several solvers side by side do.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        yield from pool.map(work, items)


class Reduced:
    """Training utterances, standardised and rotated into R = min(N, D) dimensions.

    A penalty |w|^2 and the products x_i . w are all that a linear solver sees of the features, and neither changes with
    a rotation. With D > N the N utterances span N dimensions at most: X = L Q with Q orthonormal and L (N, N) the
    Cholesky factor of X X^T, so a solver fitted on L finds b, and w = Q^T b = X^T L^-T b is the solution on X. One
    decomposition serves every task and every C.

    Args:
        features: (N, D) of any real dtype.

    Attributes:
        mean: (D,) float64 of the features.
        scale: (D,) float64, their standard deviation; 1 where a feature is constant.
        rows: (N, R) float64.
    """

    def __init__(self, features: np.ndarray) -> None:
        from sklearn.preprocessing import StandardScaler

        self._standardised: np.ndarray = features.astype(np.float64)  # (N, D)
        scaler = StandardScaler(copy=False).fit(self._standardised)  # it does not change them
        self.mean, self.scale = scaler.mean_, scaler.scale_
        self._standardised -= self.mean
        self._standardised /= self.scale
        number, size = features.shape
        if size <= number:
            self.rows = self._standardised
            return
        gram = self._standardised @ self._standardised.T  # (N, N)
        jitter = JITTER * (np.trace(gram) / number or 1.0)
        self.rows = np.linalg.cholesky(gram + jitter * np.eye(number))  # (N, N), lower

    def standardise(self, features: np.ndarray) -> np.ndarray:
        """(M, D) -> (M, D) float64, by the training utterances' mean and standard deviation."""
        return (features.astype(np.float64, copy=False) - self.mean) / self.scale

    def back(self, coefficients: np.ndarray) -> np.ndarray:
        """(C, R) coefficients on `rows` -> (C, D), those on the standardised features."""
        from scipy.linalg import solve_triangular

        if self.rows is self._standardised:
            return coefficients
        dual = solve_triangular(self.rows, coefficients.T, trans="T", lower=True)  # (N, C)
        return dual.T @ self._standardised  # (C, D)


class FittedHead(Head):
    """Mean over the frames, standardised by the training utterances, then one linear layer a task.

    The trainer gives `fit` all training utterances at once instead of making updates. The tasks share no weights: each
    is solved alone, and C may be another one for each. Values are fitted by ridge regression in every such head; how
    classes are is up to the subclass. Scaler, coefficients and intercepts are buffers and weights like any other.

    Args:
        C: how much an error counts against the size of the coefficients, which is penalised as |w|^2 / (2 C); small is
            smooth. `alpha` of scikit-learn's Ridge is 1 / (2 C). In `lda` it is another measure. One number, or {task:
            number}.
    """

    needs = "mean"
    is_fitted = True
    kinds = ("classification", "regression")
    per_task = ("C",)

    mean: Tensor
    scale: Tensor

    def __init__(
        self, input_sizes: Mapping[str, int], tasks: tuple[Task, ...], *, C: float | Mapping[str, float] = 1.0
    ) -> None:
        super().__init__(input_sizes, tasks)
        self.C = {task.name: C[task.name] if isinstance(C, Mapping) and task.name in C else C for task in tasks}
        for value in self.C.values():
            check_C(value)
        (input_size,) = input_sizes.values()
        self.register_buffer("mean", torch.zeros(input_size))
        self.register_buffer("scale", torch.ones(input_size))
        self.outputs = TaskOutputs(input_size, tasks)

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T, D)} -> logits; the embedding is the standardised mean (B, D)."""
        embedding = (masked_mean(self.only_stream(streams)) - self.mean) / self.scale  # (B, D)
        return HeadOutput(self.outputs(embedding), embedding)

    @abstractmethod
    def fit_classes(self, rows: np.ndarray, labels: np.ndarray, values: Sequence[float], balanced: bool) -> list[Plane]:
        """Fit the classes of one task with each C of `values`: (K, R) coefficients and (K,) intercepts of each.

        Args:
            rows: (N, R) float64, as `Reduced` gives them.
            labels: (N,) int64, 0..K-1, each of them at least once, K >= 2.
            values: of C.
            balanced: let every class count alike, however many utterances of it there are.
        """

    def fit_values(self, rows: np.ndarray, targets: np.ndarray, values: Sequence[float]) -> list[Plane]:
        """Ridge regression with each C of `values`, in closed form: (N, R), (N,) -> (1, R) and (1,) each."""
        from sklearn.linear_model import Ridge

        models = [Ridge(alpha=0.5 / C).fit(rows, targets.astype(np.float64)) for C in values]
        return [(model.coef_[None], np.array([model.intercept_])) for model in models]

    def planes(
        self, data: Reduced, task: Task, targets: np.ndarray, values: Sequence[float], balanced: bool
    ) -> list[Plane]:
        """One task's linear layer on standardised features, (C, D) and (C,), with each C of `values`.

        The targets (N,) are class indices (-1 missing) or values (NaN missing). A class that no utterance has is never
        predicted.
        """
        known = targets >= 0 if task.has_classes else targets == targets  # NaN is no number
        rows, truth = data.rows[known], targets[known]
        classes, positions = np.unique(truth, return_inverse=True)
        if len(classes) < (2 if task.has_classes else 1):  # nothing to tell apart
            weights = np.zeros((task.num_outputs, data.mean.size))
            biases = np.full(task.num_outputs, NEVER if len(classes) else 0.0)
            biases[classes.astype(int)] = 0.0
            return [(weights, biases)] * len(values)
        if not task.has_classes:
            found, classes = self.fit_values(rows, truth, values), np.zeros(1)
        else:
            found = self.fit_classes(rows, positions, values, balanced)
        planes = []
        for coefficients, intercepts in found:
            weights = np.zeros((task.num_outputs, data.mean.size))
            biases = np.full(task.num_outputs, NEVER)
            weights[classes.astype(int)], biases[classes.astype(int)] = data.back(coefficients), intercepts
            planes.append((weights, biases))
        return planes

    @torch.no_grad()
    def fit(self, features: np.ndarray, targets: Mapping[str, np.ndarray], balanced: bool = False) -> None:
        """Find scaler, coefficients and intercepts from (N, D) means over frames and the {task: (N,)} of `planes`."""
        data = Reduced(features)
        self.mean.copy_(torch.from_numpy(data.mean))
        self.scale.copy_(torch.from_numpy(data.scale))

        def solve(task: Task) -> Plane:
            (plane,) = self.planes(data, task, targets[task.name], [self.C[task.name]], balanced)  # type: ignore[list-item]
            return plane

        for task, (weights, biases) in zip(self.tasks, in_threads(solve, self.tasks), strict=True):
            layer: Any = self.outputs.layer(task.name)
            nn.init.zeros_(layer.weight)
            layer.weight.copy_(torch.from_numpy(weights))
            layer.bias.copy_(torch.from_numpy(biases))


def check_C(value: Any) -> None:
    """Refuse what C cannot be."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"C must be a number > 0, got {value!r}. For example head.C=0.01.")


def both_classes(coefficients: np.ndarray, intercepts: np.ndarray) -> Plane:
    """The rows of both classes, where a solver of scikit-learn keeps that of the second one alone."""
    if len(coefficients) > 1:
        return coefficients, intercepts
    return np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-intercepts, intercepts]) / 2
