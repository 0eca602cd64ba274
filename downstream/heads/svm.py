"""Linear support vector machine, the classifier of the openSMILE baselines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from undertone.downstream.fitted_head import FittedHead, Plane, both_classes

MOST_STEPS = 200


class SvmHead(FittedHead):
    """Linear support vector machine on the standardised mean of the frames.

    One class against the rest with squared hinge loss, as scikit-learn's `LinearSVC`: the baseline scripts of the
    ComParE challenges of 2019 and 2020 use it on openSMILE's features, and K classes are K rows of one linear layer. A
    machine for each pair of classes (`SVC(kernel="linear")`, WEKA's SMO before) votes, which no linear layer does. The
    logits are distances from the planes; their softmax ranks the classes and is no probability. Values are fitted by
    ridge regression with the same penalty: squared errors, as `LinearSVR` without a margin counts them.

    Choose C on dev: `--sweep head.C=1e-5,1e-4,1e-3,1e-2,1e-1,1`.
    """

    def fit_classes(self, rows: np.ndarray, labels: np.ndarray, values: Sequence[float], balanced: bool) -> list[Plane]:
        """As `LinearSVC`: balanced, a class' own utterances weigh N / (K N_k), and the rest, of several classes, 1."""
        counts = np.bincount(labels)  # (K,)
        weights = len(labels) / (len(counts) * counts) if balanced else np.ones(len(counts))
        rows = np.column_stack([rows, np.ones(len(rows))])  # (N, R + 1): the intercept is penalised, as LIBLINEAR does
        positives = range(len(counts)) if len(counts) > 2 else [1]
        solutions = []
        for own in positives:
            signs = np.where(labels == own, 1.0, -1.0)
            others = 1.0 if len(counts) > 2 else weights[0]
            solutions.append(squared_hinge(rows, signs, np.where(labels == own, weights[own], others), values))
        stacked = np.stack(solutions, axis=1)  # (values, K or 1, R + 1)
        return [both_classes(found[:, :-1], found[:, -1]) for found in stacked]


def squared_hinge(rows: np.ndarray, signs: np.ndarray, weights: np.ndarray, values: Sequence[float]) -> np.ndarray:
    """Minimise |w|^2 / 2 + C sum_i weights_i max(0, 1 - signs_i w . x_i)^2 for each C of `values`.

    Newton's method on the utterances inside the margin (Keerthi & DeCoste 2005; Chapelle 2007), solved in as many
    unknowns as there are of these, or features, whichever are fewer. It ends with the exact solution, once a full step
    leaves the same utterances inside; each C starts from the solution of the one before. Rows (N, R), signs (N,) +1 or
    -1, weights (N,) > 0 -> (values, R) float64.
    """
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else None  # (N, N)
    w = np.zeros(rows.shape[1])
    found = []
    for C in values:
        costs = C * weights
        inside = signs * (rows @ w) < 1
        for _ in range(MOST_STEPS):
            target = _newton(rows, gram, signs, costs, inside)
            step, value = 1.0, _objective(rows, signs, costs, w)
            while _objective(rows, signs, costs, w + step * (target - w)) > value and step > 1e-10:
                step /= 2
            w = w + step * (target - w)
            before, inside = inside, signs * (rows @ w) < 1
            if step == 1 and (before == inside).all() or step <= 1e-10:
                break
        found.append(w)
    return np.stack(found)


def _objective(rows: np.ndarray, signs: np.ndarray, costs: np.ndarray, w: np.ndarray) -> float:
    slack = np.maximum(0, 1 - signs * (rows @ w))
    return float(w @ w / 2 + costs @ slack**2)


def _newton(
    rows: np.ndarray, gram: np.ndarray | None, signs: np.ndarray, costs: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """(R,), the minimum of |w|^2 / 2 + sum over `inside` of costs (1 - signs w . x)^2."""
    from scipy.linalg import solve

    x, y, c = rows[inside], signs[inside], costs[inside]
    if len(x) <= rows.shape[1]:
        own = x @ x.T if gram is None else gram[np.ix_(inside, inside)]
        dual: np.ndarray = solve(own + np.diag(0.5 / c), y, assume_a="pos", overwrite_a=True)
        return np.asarray(x.T @ dual)
    weighted = (2 * c)[:, None] * x
    matrix = weighted.T @ x + np.eye(rows.shape[1])
    return np.asarray(solve(matrix, weighted.T @ y, assume_a="pos", overwrite_a=True))
