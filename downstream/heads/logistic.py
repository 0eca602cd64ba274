"""Logistic regression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from undertone.downstream.fitted_head import FittedHead, Plane
from undertone.downstream.multinomial import Multinomial


class LogisticHead(FittedHead):
    """Multinomial logistic regression on the standardised mean of the frames, fitted by L-BFGS.

    The solution is that of scikit-learn's `LogisticRegression`; the logits' softmax are its probabilities. Values are
    fitted by ridge regression with the same penalty. Take `svm` for the baseline that papers print, and `lda` for
    thousands of functionals.
    """

    def fit_classes(self, rows: np.ndarray, labels: np.ndarray, values: Sequence[float], balanced: bool) -> list[Plane]:
        """All C side by side, see `Multinomial`."""
        counts = np.bincount(labels)
        weights = len(labels) / (len(counts) * counts) if balanced else np.ones(len(counts))  # (K,)
        # Of two classes scikit-learn penalises the difference of their coefficients, which is twice as strict.
        penalised = [C / 2 if len(counts) == 2 else C for C in values]
        found = Multinomial(rows, labels, weights[labels], penalised).solve()  # (P, K, R + 1)
        return [(plane[:, :-1], plane[:, -1]) for plane in found]
