"""Logistic regression."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from undertone.downstream.fitted_head import FittedHead, Plane

TOLERANCE = 1e-6  # of the largest derivative of the mean loss, as `tol` of scikit-learn
MAX_ITERATIONS = 10_000
JITTER = 1e-6  # of the trace: lets a matrix in float32 be factored; only the number of iterations depends on it


class LogisticHead(FittedHead):
    """Multinomial logistic regression on the standardised mean of the frames, fitted by preconditioned L-BFGS.

    The solution is that of scikit-learn's `LogisticRegression`; the logits' softmax are its probabilities. Values are
    fitted by ridge regression with the same penalty. Take `svm` for the baseline that papers print.
    """

    def fit_classes(self, rows: np.ndarray, labels: np.ndarray, values: Sequence[float], balanced: bool) -> list[Plane]:
        """Each C starts from the solution of the one before."""
        counts = np.bincount(labels)
        weights = (len(labels) / (len(counts) * counts) if balanced else np.ones(len(counts)))[labels]  # (N,)
        truth = np.eye(len(counts))[labels]  # (N, K)
        small = rows.astype(np.float32)
        gram = (small.T * weights.astype(np.float32)) @ small  # (R, R)
        plane: Plane = np.zeros((len(counts), rows.shape[1])), np.zeros(len(counts))
        planes = []
        for C in values:
            # Of two classes scikit-learn penalises the difference of their coefficients, which is twice as strict.
            plane = _solve(rows, truth, weights, gram, C / 2 if len(counts) == 2 else C, plane)
            planes.append(plane)
        return planes


def _solve(rows: np.ndarray, truth: np.ndarray, weights: np.ndarray, gram: np.ndarray, C: float, start: Plane) -> Plane:
    """The minimum of the weighted mean of cross-entropies (N,) plus |w|^2 / (2 C sum of weights).

    L-BFGS takes several times fewer iterations where the curvature is alike in all directions. So it searches z with
    w L = z and L L^T about the Hessian of a class: the gram matrix (R, R), as if all utterances had the same
    p (1 - p), and the penalty.
    """
    from scipy.linalg import solve_triangular
    from scipy.optimize import minimize
    from scipy.special import log_softmax
    from sklearn.exceptions import ConvergenceWarning

    total, size = weights.sum(), rows.shape[1]
    p = np.exp(log_softmax(rows @ start[0].T + start[1], axis=1))  # (N, K)
    curvature = float(weights @ (p * (1 - p)).mean(1) / total) / total  # of the mean loss, an utterance of weight 1
    hessian = gram * np.float32(curvature)
    hessian[np.diag_indices(size)] += np.float32(1 / (C * total) + JITTER * hessian.trace())
    factor = np.linalg.cholesky(hessian).astype(np.float64)  # (R, R), lower
    unit = np.sqrt(curvature * total)  # of the intercepts
    steepest = np.inf

    def plane_of(flat: np.ndarray) -> Plane:
        z = flat.reshape(-1, size + 1)  # (K, R + 1)
        return solve_triangular(factor, z[:, :-1].T, trans="T", lower=True, check_finite=False).T, z[:, -1] / unit

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal steepest
        coefficients, intercepts = plane_of(flat)
        logs = log_softmax(rows @ coefficients.T + intercepts, axis=1)  # (N, K)
        loss = (coefficients**2).sum() / (2 * C * total) - weights @ (logs * truth).sum(1) / total
        errors = (np.exp(logs) - truth) * (weights / total)[:, None]  # (N, K)
        of_coefficients = errors.T @ rows + coefficients / (C * total)  # (K, R)
        of_intercepts = errors.sum(0)  # (K,)
        steepest = max(abs(of_coefficients).max(), abs(of_intercepts).max())
        of_z = solve_triangular(factor, of_coefficients.T, lower=True, check_finite=False).T  # (K, R)
        return loss, np.column_stack([of_z, of_intercepts / unit]).ravel()

    def stop_when_flat(_: np.ndarray) -> None:
        if steepest <= TOLERANCE:
            raise StopIteration

    found = minimize(
        loss_and_gradient,
        np.column_stack([start[0] @ factor, start[1] * unit]).ravel(),
        jac=True,
        method="L-BFGS-B",
        callback=stop_when_flat,
        options={"maxiter": MAX_ITERATIONS, "maxls": 50, "gtol": 0.0, "ftol": 64 * np.finfo(float).eps},
    )
    plane = plane_of(found.x)
    loss_and_gradient(found.x)
    if steepest > 10 * TOLERANCE:
        warnings.warn(
            f"Logistic regression with C={C:g} stopped before its minimum: the largest derivative is {steepest:.0e}, "
            f"wanted <= {TOLERANCE:.0e} ({found.message}). Smaller values of C converge sooner.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return plane
