"""How much of an adversarial label can still be predicted from the embedding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from undertone.downstream.task import Task
from undertone.scoring.metrics import uar
from undertone.training.targets import targets

PARTS = 5


def leakage(embeddings: np.ndarray, task: Task, utterances: Sequence[object]) -> dict[str, float] | None:
    """UAR of a new linear probe for an adversarial task, and its chance level.

    The adversary's own accuracy proves nothing: it may lag behind (Elazar and Goldberg 2018). Here a logistic
    regression is fitted to the standardised embeddings in stratified cross-validation, so that a probe predicts only
    utterances that it was not fitted on. Classes of fewer than five utterances are left out.

    Returns:
        `uar` and `chance` of (N, E) embeddings of N utterances, fractions; None where fewer than two classes are left.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    truth = targets(task, utterances)  # type: ignore[arg-type]
    frequent = [label for label, count in Counter(truth.tolist()).items() if label >= 0 and count >= PARTS]
    rows = np.isin(truth, frequent)
    if len(frequent) < 2:
        return None
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    parts = StratifiedKFold(PARTS, shuffle=True, random_state=0)
    predicted = cross_val_predict(probe, embeddings[rows], truth[rows], cv=parts)
    return {"uar": float(uar(truth[rows], predicted, len(task.labels))), "chance": 1 / len(frequent)}
