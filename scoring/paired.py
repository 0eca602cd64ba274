"""Two runs on the same utterances: the difference, its interval and p, which are one decision.

Both come from the standard error over speakers of `intervals.py`, of the difference: the interval excludes 0 exactly
when p < 0.05. A permutation of the speakers' results would decide something else (with four speakers its p is never
below 0.125, whatever the interval says).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undertone.downstream.task import Task
from undertone.scoring.intervals import (
    ROUNDING,
    Metric,
    metrics_of,
    positions,
    standard_error,
    t_p,
    t_quantile,
    unit_sums,
    why_none,
)
from undertone.scoring.predictions import Predictions


@dataclass(frozen=True)
class Paired:
    """How a run differs from a baseline in one metric.

    Attributes:
        metric: `uar` of a classification, `ccc` of a regression.
        baseline: pooled value of the baseline.
        value: pooled value of the run.
        difference: value - baseline.
        ci95: interval of the difference over speakers; NaN where none can be given.
        p: two-sided; below 0.05 exactly when `ci95` excludes 0; NaN with it.
        detectable: the smallest difference of which p is below 0.05, between runs that differ from speaker to speaker
            as these do: half the interval's width.
        num_speakers: that have a label.
        df: degrees of freedom of Student's t.
        note: why there is no interval, or "".
        speakers: (speaker, value of the baseline, of the run), where speakers are known.
    """

    metric: str
    baseline: float
    value: float
    difference: float
    ci95: list[float]
    p: float
    detectable: float
    num_speakers: int
    df: float
    note: str
    speakers: list[tuple[str, float, float]]


def paired(baseline: Predictions, other: Predictions, task: Task) -> Paired:
    """Compare two runs' predictions of one task in its main metric.

    Args:
        baseline: test predictions of all folds.
        other: of the same utterances; where a run has several seeds, an utterance has as many rows.
        task: in both.
    """
    pair = [run.select(np.argsort(run.ids, kind="stable")) for run in (baseline, other)]
    name, metric = next(iter(metrics_of(task).items()))
    speakers = sorted(set(pair[0].speakers), key=lambda speaker: (speaker is None, speaker or ""))
    sums = _sums(pair, task, speakers)  # (S, 2, ...)
    first, second = (float(value) for value in metric.of(sums.sum(axis=0)))
    if note := why_none(pair[0], task, sums[:, 0], metric):
        reach, p, df = math.nan, math.nan, math.nan
    else:
        reach, p, df = (float(value) for value in decide(sums, metric))
        if math.isnan(p):
            note = f"No interval for {task.name}: all test speakers differ alike, which chance seldom does."
    return Paired(
        metric=name,
        baseline=first,
        value=second,
        difference=second - first,
        ci95=[second - first - reach, second - first + reach],
        p=p,
        detectable=reach,
        num_speakers=int(metric.counts(sums[:, 0]).any(axis=1).sum()),
        df=df,
        note=note or "",
        speakers=_per_speaker(speakers, metric, sums),
    )


def decide(sums: np.ndarray, metric: Metric) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half the width of the 95 % interval of a difference, its two-sided p, and the degrees of freedom; each (...).

    Args:
        sums: (..., S, 2, ...) of two systems on the same utterances; see `standard_error`.
        metric: in which they differ.

    Returns:
        0 and 1 of systems whose speakers' results are the same; NaN where all speakers differ by the same amount,
        from which nothing follows for other speakers.
    """
    error, df = standard_error(sums, metric, paired=True)
    difference = np.diff(metric.of(sums.sum(axis=error.ndim)))[..., 0]  # (...)
    same, known = np.abs(difference) < ROUNDING, error > ROUNDING
    p = t_p(difference / np.where(known, error, 1), df)
    return (
        np.where(known, t_quantile(df) * error, np.where(same, 0, np.nan)),
        np.where(known, p, np.where(same, 1, np.nan)),
        df,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): adjusted p, to be compared with the level as they are; NaN stays NaN.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    known = [place for place, p in enumerate(p_values) if not math.isnan(p)]
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, place in enumerate(sorted(known, key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(known) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _sums(pair: Sequence[Predictions], task: Task, speakers: Sequence[str | None]) -> np.ndarray:
    """(S, 2, ...) sums of both runs, each for one training."""
    once = min(map(len, pair)) if task.level == "frame" else max(1, len(set(pair[0].ids)))  # rows of one training
    found = [
        unit_sums(run, task, positions(run.speakers, speakers), len(speakers)) / (len(run) / max(1, once))
        for run in pair
    ]
    return np.stack(found, axis=1)  # (S, 2, ...)


def _per_speaker(speakers: Sequence[str | None], metric: Metric, sums: np.ndarray) -> list[tuple[str, float, float]]:
    """(speaker, baseline's value, run's value), the metric over the speaker's own utterances."""
    values = metric.of(sums)  # (S, 2)
    if None in speakers:
        return []
    return [(str(name), float(one), float(two)) for name, (one, two) in zip(speakers, values, strict=True)]
