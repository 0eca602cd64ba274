"""Bootstrap intervals over speakers, through sums that are additive over speakers.

A resample draws as many units (speakers) as there are, with replacement, and takes all utterances of each: utterances
of one speaker are not independent of each other. A metric of a resample needs only how often each unit was drawn: its
confusion counts (or moments) are weighted by that and added, so all resamples are one matrix product. Sources: Efron
1979, "Bootstrap methods: another look at the jackknife"; Field and Welsh 2007, "Bootstrapping clustered data".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from undertone.downstream.task import Task
from undertone.training.metrics import ccc_of, macro_f1_of, moments, uar_of, wa_of
from undertone.training.predictions import Predictions

MIN_SPEAKERS = 8
_BLOCK = 4_000_000  # weights held in memory at a time
_Metrics = Mapping[str, Callable[[np.ndarray], np.ndarray]]
_CONFUSION_METRICS: _Metrics = {"uar": uar_of, "wa": wa_of, "macro_f1": macro_f1_of}
_MOMENT_METRICS: _Metrics = {"ccc": ccc_of}


def confidence_intervals(
    predictions: Predictions, *, level: float = 0.95, num_resamples: int = 1000, seed: int = 0
) -> tuple[dict[str, dict[str, list[float]]], Literal["speaker", "utterance"]]:
    """Percentile bootstrap intervals of UAR, WA and macro-F1, or of CCC, for every task.

    Args:
        predictions: all that was tested, of all folds together.
        level: share of the resamples inside the interval.
        num_resamples: how many resamples.
        seed: decides the resamples, which are the same for all tasks.

    Returns:
        task -> metric -> [low, high], NaN where no resample has a value; and the unit that was drawn: speakers, or
        utterances where a speaker is unknown or there are fewer than 8.

    Raises:
        ValueError: level outside (0, 1) or no resamples.
    """
    if not 0 < level < 1 or num_resamples < 1:
        raise ValueError(f"level must be in (0, 1) and num_resamples >= 1, got {level} and {num_resamples}.")
    units, unit = units_of(predictions)
    num_units = int(units.max(initial=0)) + 1  # one empty unit where there are no utterances
    intervals: dict[str, dict[str, list[float]]] = {}
    for task in predictions.tasks:
        sums, metrics = unit_sums(predictions, task, units, num_units)
        drawn = resample(sums, num_resamples, seed)  # (R, ...)
        values = {name: metric(drawn) for name, metric in metrics.items()}  # (R,) each
        intervals[task.name] = {name: interval(value, level) for name, value in values.items()}
    return intervals, unit


def units_of(
    predictions: Predictions, min_speakers: int = MIN_SPEAKERS
) -> tuple[np.ndarray, Literal["speaker", "utterance"]]:
    """(N,) index of the unit of each row, and what a unit is; rows of one utterance (several seeds) share it."""
    names = sorted({speaker for speaker in predictions.speakers if speaker is not None})
    if None in predictions.speakers or len(names) < min_speakers:
        return positions(predictions.ids, list(dict.fromkeys(predictions.ids))), "utterance"
    return positions(predictions.speakers, names), "speaker"


def positions(values: Sequence[str | None], names: Sequence[str]) -> np.ndarray:
    """(N,) int64 place of each value in `names`."""
    index: dict[str | None, int] = {name: place for place, name in enumerate(names)}
    return np.array([index[value] for value in values], dtype=np.int64)


def unit_sums(predictions: Predictions, task: Task, units: np.ndarray, num_units: int) -> tuple[np.ndarray, _Metrics]:
    """Sums over each unit's labelled utterances, (U, C, C) counts or (U, 6) moments, and the metrics of such sums."""
    rows = predictions.known(task)
    target, predicted, unit = predictions.targets[task.name][rows], predictions.predicted(task)[rows], units[rows]
    if task.kind == "regression":
        columns = moments(target, predicted).T  # (6, N)
        return np.stack([np.bincount(unit, column, num_units) for column in columns], axis=1), _MOMENT_METRICS
    size = len(task.labels)
    cells = np.bincount((unit * size + target) * size + predicted, minlength=num_units * size * size)
    return cells.reshape(num_units, size, size), _CONFUSION_METRICS


def resample(sums: np.ndarray, num_resamples: int, seed: int) -> np.ndarray:
    """(U, ...) sums of units -> (R, ...) sums of resamples of U units."""
    rng, size = np.random.default_rng(seed), len(sums)
    flat = sums.reshape(size, math.prod(sums.shape[1:])).astype(np.float64)  # (U, K)
    totals = np.empty((num_resamples, flat.shape[1]))
    block = max(1, _BLOCK // size)
    for start in range(0, num_resamples, block):
        rows = min(block, num_resamples - start)
        totals[start : start + rows] = draws(rng, size, rows) @ flat  # (rows, U) @ (U, K)
    return totals.reshape(num_resamples, *sums.shape[1:])  # (R, ...)


def draws(rng: np.random.Generator, num_units: int, num_resamples: int) -> np.ndarray:
    """(num_resamples, num_units): how often each unit is drawn in each resample; every row sums to num_units."""
    return rng.multinomial(num_units, np.full(num_units, 1 / num_units), num_resamples)


def interval(values: np.ndarray, level: float = 0.95) -> list[float]:
    """[low, high] that hold the middle `level` of the (R,) values that are defined; NaN where none is."""
    defined = values[~np.isnan(values)]
    ends = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]) if len(defined) else [math.nan] * 2
    return [float(end) for end in ends]
