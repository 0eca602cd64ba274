"""Linear discriminant analysis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from undertone.downstream.fitted_head import FittedHead, Plane


class LdaHead(FittedHead):
    """Linear discriminant analysis on the standardised mean of the frames, in closed form.

    Each class is a Gaussian, all with one covariance: the mean of the classes' own, plus the identity / C (Friedman,
    "Regularized discriminant analysis", JASA 84, 1989). How speakers differ within a class is part of that covariance,
    and counts little in its inverse: with thousands of functionals that is worth more than `logistic` finds. It is
    scikit-learn's `LinearDiscriminantAnalysis` with that covariance; the logits' softmax are its probabilities, which
    are too sure where there are few utterances. Values are fitted by least squares, the identity / C added to the
    covariance of the features: scikit-learn's `Ridge` with alpha N / C.

    Choose C on dev, `--sweep head.C=0.03,0.1,0.3,1`: of that order it was for seven to ten thousand functionals.
    """

    def fit_classes(self, rows: np.ndarray, labels: np.ndarray, values: Sequence[float], balanced: bool) -> list[Plane]:
        """Balanced, the classes are equally likely, and the covariance of each counts alike."""
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        counts = np.bincount(labels)
        priors = np.full(len(counts), 1 / len(counts)) if balanced else counts / len(labels)  # (K,)
        means = np.stack([rows[labels == own].mean(0) for own in range(len(counts))])  # (K, R)
        centred = (rows - means[labels]) * np.sqrt(priors / counts)[labels, None]  # (N, R)
        covariance, found = centred.T @ centred, []  # (R, R)
        diagonal = np.einsum("ii->i", covariance)
        within = diagonal.copy()
        for C in values:
            diagonal[:] = within + 1 / C
            try:
                weights = cho_solve(cho_factor(covariance, lower=True), means.T).T  # (K, R)
            except LinAlgError as error:
                raise ValueError(f"head.C={C:g} adds too little to a singular covariance. Take 0.03 to 1.") from error
            found.append((weights, np.log(priors) - (weights * means).sum(1) / 2))
        return found

    def fit_values(self, rows: np.ndarray, targets: np.ndarray, values: Sequence[float]) -> list[Plane]:
        """See the class."""
        return super().fit_values(rows, targets, [C / (2 * len(rows)) for C in values])
