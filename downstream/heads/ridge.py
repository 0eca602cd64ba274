"""Ridge regression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from undertone.downstream.fitted_head import FittedHead, Plane, both_classes


class RidgeHead(FittedHead):
    """Ridge regression on the standardised mean of the frames, in closed form: the head for arousal and other values.

    As scikit-learn's `Ridge`, whose `alpha` is 1 / (2 C). Classes are fitted by least squares to +1 and -1, its
    `RidgeClassifier`: the fastest head there is, but the softmax of its logits is no probability. Take `logistic`
    for values by ridge regression beside classes with probabilities.

    Choose C on dev: `--sweep head.C=1e-5,1e-4,1e-3,1e-2,1e-1,1`.
    """

    def fit_classes(self, rows: np.ndarray, labels: np.ndarray, values: Sequence[float], balanced: bool) -> list[Plane]:
        """`RidgeClassifier`."""
        from sklearn.linear_model import RidgeClassifier

        weight = "balanced" if balanced else None
        models = [RidgeClassifier(alpha=0.5 / C, class_weight=weight).fit(rows, labels) for C in values]
        return [both_classes(np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)) for model in models]
