"""Multinomial logistic regression with several penalties at once.

What a solver waits for is the features, which are larger than the processor's cache: a product with six columns takes
about as long as one with a hundred. So the problems of all penalties go through L-BFGS side by side, each with its own
steps, and every pass over the features serves all that have not converged. Most of the way goes by features of half the
size, in float32; the last stretch, and so the solution, by those in float64.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Sequence

import numpy as np

TOLERANCE = 1e-6  # of the largest derivative of the mean loss, as `tol` of scikit-learn
MAX_HALVINGS, HISTORY = 30, 10
STAGES = (("float32", 30 * TOLERANCE, 1e-7, 1_000), ("float64", TOLERANCE, 1e-14, 10_000))
"""Features, largest derivative, rounding of a loss, iterations."""
SUFFICIENT = 1e-4  # of a step's decrease, as a fraction of what its slope promises (Armijo)
DIRECTIONS = 100  # of the features whose curvature is known; only the number of iterations depends on these two
CURVATURE = 0.3  # of an utterance, as a fraction of 1 / K: p (1 - p) at the solution, roughly


class Multinomial:
    """The weighted mean of cross-entropies plus |w|^2 / (2 C sum of weights), for each C.

    Points, gradients and directions are (P, K, R + 1): coefficients and intercept of K classes, for each of P problems.

    Args:
        rows: (N, R) float64.
        labels: (N,) int64 from 0, each class at least once.
        weights: (N,) of the utterances.
        values: of C, P of them.
    """

    def __init__(self, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, values: Sequence[float]) -> None:
        self.rows, self.weights = rows, weights / weights.sum()
        self.truth = np.eye(labels.max() + 1)[labels]  # (N, K)
        self.penalties = 1 / (np.asarray(values) * weights.sum())  # (P,)
        moments, self.directions = self._moments()  # (M,) and (M, R)
        scale = CURVATURE / self.truth.shape[1]
        total = float(self.weights @ np.einsum("nr,nr->n", rows, rows))
        others = max(total - moments.sum(), 0.0) / max(rows.shape[1] - len(moments), 1)  # mean of the other directions
        self.along = scale * moments + self.penalties[:, None]  # (P, M), curvature along the directions
        self.across = scale * others + self.penalties  # (P,), elsewhere
        self.of_intercept = scale

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """The largest eigenvalues of the weighted second moments of the features, and their directions."""
        from sklearn.utils.extmath import randomized_svd

        weighted = self.rows * np.sqrt(self.weights)[:, None]
        if self.rows.shape[1] <= DIRECTIONS:
            moments, vectors = np.linalg.eigh(weighted.T @ weighted)
            return moments, vectors.T
        _, values, directions = randomized_svd(weighted.astype(np.float32), DIRECTIONS, n_iter=1, random_state=0)
        return values.astype(np.float64) ** 2, directions.astype(np.float64)

    def loss_and_gradient(
        self, points: np.ndarray, problems: np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(Q,) and (Q, K, R + 1) at points (Q, K, R + 1) of problems (Q,), by features (N, R) in any precision."""
        from scipy.special import log_softmax

        (num, classes, size), penalties = points[:, :, :-1].shape, self.penalties[problems]
        flat = points[:, :, :-1].reshape(num * classes, size)
        scores = (rows @ flat.T.astype(rows.dtype)).astype(np.float64)  # (N, Q K)
        logs = log_softmax(scores.reshape(-1, num, classes) + points[:, :, -1], axis=2)  # (N, Q, K)
        losses = (flat**2).reshape(num, -1).sum(1) * penalties / 2
        losses -= np.einsum("n,nqk,nk->q", self.weights, logs, self.truth)
        errors = (np.exp(logs) - self.truth[:, None]) * self.weights[:, None, None]  # (N, Q, K)
        gradients = np.empty_like(points)
        products = errors.reshape(len(errors), -1).T.astype(rows.dtype) @ rows  # (Q K, R)
        gradients[:, :, :-1] = products.reshape(num, classes, size)
        gradients[:, :, :-1] += penalties[:, None, None] * points[:, :, :-1]
        gradients[:, :, -1] = errors.sum(0)
        return losses, gradients

    def newton(self, gradients: np.ndarray, problems: np.ndarray) -> np.ndarray:
        """(Q, K, R + 1) gradients -> over the curvature, as if all utterances had the same p (1 - p)."""
        inner = gradients[:, :, :-1] @ self.directions.T  # (Q, K, M)
        across = self.across[problems][:, None, None]
        inner *= 1 / self.along[problems][:, None] - 1 / across
        steps = np.empty_like(gradients)
        steps[:, :, :-1] = inner @ self.directions + gradients[:, :, :-1] / across
        steps[:, :, -1] = gradients[:, :, -1] / self.of_intercept
        return steps

    def solve(self) -> np.ndarray:
        """The minima, (P, K, R + 1); a warning names each C whose minimum was not reached."""
        points = np.zeros((len(self.penalties), self.truth.shape[1], self.rows.shape[1] + 1))
        history: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=HISTORY)  # steps and changes of the gradient
        for dtype, tolerance, rounding, iterations in STAGES:
            rows = self.rows.astype(dtype, copy=False)
            gradients = self._descend(points, history, rows, tolerance, rounding, iterations)
        self._warn(np.abs(gradients).max((1, 2)))
        return points

    def _descend(
        self,
        points: np.ndarray,
        history: deque[tuple[np.ndarray, np.ndarray]],
        rows: np.ndarray,
        tolerance: float,
        rounding: float,
        iterations: int,
    ) -> np.ndarray:
        """Move the points (P, K, R + 1) until no derivative exceeds the tolerance; returns the gradients there."""
        active = np.arange(len(points))
        losses, gradients = self.loss_and_gradient(points, active, rows)
        for _ in range(iterations):
            active = active[np.abs(gradients[active]).max((1, 2)) > tolerance]
            if not len(active):
                break
            directions = -self._over_curvature(gradients[active], history, active)
            slopes, before = _dot(directions, gradients[active]), losses[active]
            steps, changes = np.zeros_like(points), np.zeros_like(points)
            rate, searching = 1.0, np.arange(len(active))
            for _ in range(MAX_HALVINGS):
                tried = points[active[searching]] + rate * directions[searching]
                found, slope = self.loss_and_gradient(tried, active[searching], rows)
                lower = found <= before[searching] + SUFFICIENT * rate * slopes[searching] + rounding
                done = active[searching[lower]]
                steps[done], changes[done] = tried[lower] - points[done], slope[lower] - gradients[done]
                points[done], losses[done], gradients[done] = tried[lower], found[lower], slope[lower]
                searching, rate = searching[~lower], rate / 2
                if not len(searching):
                    break
            active = np.delete(active, searching)  # of these, rounding hides what is left to gain
            history.append((steps, changes))
        return gradients

    def _over_curvature(
        self, gradients: np.ndarray, history: deque[tuple[np.ndarray, np.ndarray]], problems: np.ndarray
    ) -> np.ndarray:
        """The two-loop recursion (Nocedal & Wright, Numerical Optimization, algorithm 7.4) from `newton`."""
        found, used = gradients.copy(), []
        every = slice(None) if len(problems) == len(self.penalties) else problems  # a view, not a copy
        for steps, changes in reversed([(steps[every], changes[every]) for steps, changes in history]):
            inverse = _inverse(_dot(steps, changes))
            along = inverse * _dot(steps, found)
            found -= _times(along, changes)
            used.append((steps, changes, inverse, along))
        found = self.newton(found, problems)
        if used:
            steps, changes, _, _ = used[0]
            scale = _dot(steps, changes) * _inverse(_dot(changes, self.newton(changes, problems)))
            found = _times(np.where(scale > 0, scale, 1.0), found)
        for steps, changes, inverse, along in reversed(used):
            found += _times(along - inverse * _dot(changes, found), steps)
        return found

    def _warn(self, steepest: np.ndarray) -> None:
        """Name the problems that ended far from their minimum."""
        from sklearn.exceptions import ConvergenceWarning

        for penalty, slope in zip(self.penalties, steepest, strict=True):
            if slope > 10 * TOLERANCE:
                warnings.warn(
                    f"Logistic regression did not reach its minimum: the largest derivative is {slope:.0e}, "
                    f"wanted <= {TOLERANCE:.0e}, with a penalty of {penalty:.1e} |w|^2 / 2. Use a smaller C.",
                    ConvergenceWarning,
                    stacklevel=3,
                )


def _dot(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(Q, K, R + 1) twice -> (Q,)."""
    found: np.ndarray = np.vecdot(left.reshape(len(left), -1), right.reshape(len(right), -1))
    return found


def _times(factors: np.ndarray, arrays: np.ndarray) -> np.ndarray:
    """(Q,) and (Q, K, R + 1) -> (Q, K, R + 1)."""
    return factors[:, None, None] * arrays


def _inverse(values: np.ndarray) -> np.ndarray:
    """(Q,) -> (Q,), 0 of what is not positive."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)
