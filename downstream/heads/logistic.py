"""Logistic regression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from undertone.downstream.fitted_head import FittedHead, Plane, both_classes


class LogisticHead(FittedHead):
    """Multinomial logistic regression on the standardised mean of the frames, fitted by L-BFGS.

    As scikit-learn's `LogisticRegression`; the logits' softmax are its probabilities. Values are fitted by ridge
    regression with the same penalty. Take `svm` for the baseline that papers print.
    """

    def fit_classes(self, rows: np.ndarray, labels: np.ndarray, values: Sequence[float], balanced: bool) -> list[Plane]:
        """`LogisticRegression`, each C starting from the solution of the one before."""
        from sklearn.linear_model import LogisticRegression

        weight = "balanced" if balanced else None
        model = LogisticRegression(class_weight=weight, tol=1e-6, max_iter=10_000, warm_start=True)
        planes = []
        for C in values:
            model.set_params(C=C).fit(rows, labels)
            planes.append(both_classes(model.coef_.copy(), model.intercept_.copy()))
        return planes
