"""A model beside the raters: how often each of them says what one rater, picked at random, says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from undertone.downstream.task import Task
from undertone.scoring.predictions import Predictions

TASK = "emotion"  # what the manifest's votes are about


def rater_agreement(predictions: Predictions, votes: Mapping[str, Mapping[str, float] | None]) -> dict[str, Any] | None:
    """Agreement of a random rater with the model, the raters' plurality and another rater.

    With n_k votes for label k of n: the share of votes for the model's label is n_said / n, for the most voted one
    max n_k / n, and two of the raters agree with probability sum_k n_k (n_k - 1) / (n (n - 1)), the observed agreement
    of Fleiss' kappa (1971). The last two are over utterances with two votes or more.

    Args:
        predictions: test predictions of all folds.
        votes: utterance id -> {label: votes}; None or empty = none. Labels that the model does not have count as
            votes for something else.

    Returns:
        `num` utterances with two votes or more, `model`, `majority` and `raters` (shares), and `doubt`, Spearman's
        correlation of the model's entropy with the raters' (None where one is constant); None without such votes or
        without the task emotion.
    """
    task = next((task for task in predictions.tasks if task.name == TASK and len(task.labels) > 1), None)
    cast = [votes.get(name) or {} for name in predictions.ids]
    rows = np.array([sum(row.values()) >= 2 for row in cast], dtype=bool)
    if task is None or not rows.any():
        return None
    counts = [np.array(list(row.values()), dtype=np.float64) for row, wanted in zip(cast, rows, strict=True) if wanted]
    totals = np.array([count.sum() for count in counts])
    said = _votes_for(task, predictions, cast)[rows]
    pairs = np.array([np.sum(count * (count - 1)) for count in counts]) / (totals * (totals - 1))
    return {
        "num": len({name for name, wanted in zip(predictions.ids, rows, strict=True) if wanted}),
        "model": float(np.mean(said / totals)),
        "majority": float(np.mean([count.max() for count in counts] / totals)),
        "raters": float(np.mean(pairs)),
        "doubt": _rank_correlation(_entropies(predictions.scores[TASK][rows]), [_entropy(count) for count in counts]),
    }


def _votes_for(task: Task, predictions: Predictions, cast: Sequence[Mapping[str, float]]) -> np.ndarray:
    """(N,) votes for what the model said of each utterance."""
    said = predictions.scores[task.name].argmax(axis=1)
    return np.array([row.get(task.labels[label], 0.0) for row, label in zip(cast, said, strict=True)])


def _entropies(scores: np.ndarray) -> list[float]:
    return [_entropy(row) for row in scores]


def _entropy(weights: np.ndarray) -> float:
    shares = weights[weights > 0] / weights.sum()
    return float(-np.sum(shares * np.log(shares)))


def _rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    from scipy.stats import spearmanr

    if min(np.ptp(first), np.ptp(second)) < 1e-12:
        return None
    return float(spearmanr(first, second).statistic)
