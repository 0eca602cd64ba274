"""Logistic regression."""

from __future__ import annotations

from typing import Any, Literal

from undertone.downstream.fitted_head import FittedHead


class LogisticHead(FittedHead):
    """Multinomial logistic regression on the standardised mean of the frames, fitted by L-BFGS.

    As scikit-learn's `LogisticRegression`; the logits' softmax are its probabilities. Values are fitted by ridge
    regression with the same penalty, |w|^2 / (2 C). Take `svm` for the baseline that papers print.
    """

    def classifier(self, class_weight: Literal["balanced"] | None) -> Any:
        """`LogisticRegression`."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=self.C, class_weight=class_weight, max_iter=10_000)

    def regressor(self) -> Any:
        """`Ridge`, which minimises |error|^2 + alpha |w|^2."""
        from sklearn.linear_model import Ridge

        return Ridge(alpha=0.5 / self.C)
