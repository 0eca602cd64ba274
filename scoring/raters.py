"""Agreement with the raters: how often a random rater agrees with the model, the majority and another rater."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from undertone.scoring.predictions import Predictions

TASK = "emotion"  # what the manifest's votes are about


def rater_agreement(predictions: Predictions, votes: Mapping[str, Mapping[str, float] | None]) -> dict[str, Any] | None:
    """Agreement of a random rater with the model, the raters' majority (plurality) and another rater.

    With n_k of n votes for label k, these are n_predicted / n, max n_k / n, and sum_k n_k (n_k - 1) / (n (n - 1)), the
    observed agreement of Fleiss' kappa (1971), averaged over utterances with two votes or more.

    Args:
        predictions: test predictions of all folds.
        votes: utterance id -> {label: votes}; None or empty = none. Labels that the model lacks count as votes.

    Returns:
        `num` utterances with two votes or more, `model`, `majority` and `raters` (fractions), and `doubt`, Spearman's
        correlation of the entropies of model and votes (None if one is constant); None without such votes or without
        the task emotion.
    """
    from scipy.stats import entropy, spearmanr

    task = next((task for task in predictions.tasks if task.name == TASK and len(task.labels) > 1), None)
    rows = np.array([sum((votes.get(name) or {}).values()) >= 2 for name in predictions.ids], dtype=bool)
    if task is None or not rows.any():
        return None
    rated = predictions.select(rows)
    cast = [votes[name] or {} for name in rated.ids]
    counts = [np.array(list(row.values()), dtype=np.float64) for row in cast]
    totals = np.array([count.sum() for count in counts])
    predicted = [task.labels[label] for label in rated.predicted(task)]
    for_model = np.array([row.get(label, 0.0) for row, label in zip(cast, predicted, strict=True)])
    pairs = np.array([np.sum(count * (count - 1)) for count in counts]) / (totals * (totals - 1))
    doubts = [[float(entropy(row)) for row in table] for table in (rated.scores[TASK], counts)]
    constant = min(map(np.ptp, doubts)) < 1e-12
    return {
        "num": len(set(rated.ids)),
        "model": float(np.mean(for_model / totals)),
        "majority": float(np.mean([count.max() for count in counts] / totals)),
        "raters": float(np.mean(pairs)),
        "doubt": None if constant else float(spearmanr(*doubts).statistic),
    }
