"""Linear support vector machine, the classifier of the openSMILE baselines."""

from __future__ import annotations

from typing import Any, Literal

from undertone.downstream.fitted_head import FittedHead


class SvmHead(FittedHead):
    """Linear support vector machine on the standardised mean of the frames, fitted by LIBLINEAR.

    One class against the rest with squared hinge loss, scikit-learn's `LinearSVC`: the baseline scripts of the ComParE
    challenges of 2019 and 2020 use it on openSMILE's features, and K classes are K rows of one linear layer. A machine
    for each pair of classes (`SVC(kernel="linear")`, WEKA's SMO before) votes, which no linear layer does. The logits
    are distances from the planes; their softmax ranks the classes and is no probability. Values are fitted by
    `LinearSVR`.

    Choose C on dev: `--sweep head.C=1e-5,1e-4,1e-3,1e-2,1e-1,1`.
    """

    def classifier(self, class_weight: Literal["balanced"] | None) -> Any:
        """`LinearSVC`; the primal or the dual problem, whichever is the smaller."""
        from sklearn.svm import LinearSVC

        return LinearSVC(C=self.C, class_weight=class_weight, dual="auto", random_state=0, max_iter=100_000)

    def regressor(self) -> Any:
        """`LinearSVR`."""
        from sklearn.svm import LinearSVR

        return LinearSVR(C=self.C, dual="auto", loss="squared_epsilon_insensitive", random_state=0, max_iter=100_000)
