"""Two runs on the same utterances: the difference, its interval, and how often chance alone gives as large a one.

Both go through sums that are additive over units (confusion counts or moments, as in `intervals.py`), so that every
resample and every permutation is one row of a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from undertone.downstream.task import Task
from undertone.training.intervals import interval, positions, resample, unit_sums, units_of
from undertone.training.predictions import Predictions

OfSums = Callable[[np.ndarray], np.ndarray]
EXACT = 13  # up to so many units, all 2^U exchanges are tried
_BLOCK = 4_000_000  # exchanges x units held in memory at a time
_TIE = 1e-12  # two statistics closer than this are equal but for rounding


@dataclass(frozen=True)
class Paired:
    """How a run differs from a baseline in one metric.

    Attributes:
        metric: `uar` of a classification, `ccc` of a regression.
        baseline: pooled value of the baseline.
        value: pooled value of the run.
        difference: value - baseline.
        ci95: percentile bootstrap interval of the difference; both runs get the same resamples.
        ci_unit: what is resampled.
        p: two-sided permutation p.
        p_unit: whose predictions are exchanged between the runs.
        num_units: how many of them.
        exact: every one of the 2^num_units exchanges was tried.
        speakers: (speaker, value of the baseline, of the run), where speakers are known.
    """

    metric: str
    baseline: float
    value: float
    difference: float
    ci95: list[float]
    ci_unit: Literal["speaker", "utterance"]
    p: float
    p_unit: Literal["speaker", "utterance"]
    num_units: int
    exact: bool
    speakers: list[tuple[str, float, float]]


def paired(
    baseline: Predictions,
    other: Predictions,
    task: Task,
    *,
    num_resamples: int = 1000,
    num_permutations: int = 10_000,
    seed: int = 0,
) -> Paired:
    """Compare two runs' predictions of one task.

    The interval resamples speakers, and utterances where `confidence_intervals` would. The test exchanges the two
    runs' predictions of whole speakers (utterances where a speaker is unknown or there is one only): were the runs
    equally good, each exchange would be as likely as what was seen (Fisher 1935; Good 2005, "Permutation, parametric
    and bootstrap tests of hypotheses"). The statistic is the difference of the pooled metric. With U speakers no p is
    below 2 / 2^U.

    Args:
        baseline: test predictions of all folds.
        other: of the same utterances; where a run has several seeds, an utterance has as many rows.
        task: in both.
        num_resamples: of the bootstrap.
        num_permutations: random exchanges, where there are too many units to try all.
        seed: decides resamples and exchanges.
    """
    pair = [run.select(np.argsort(run.ids, kind="stable")) for run in (baseline, other)]
    metric, of_sums, sums = _sums(pair, task, [units_of(run)[0] for run in pair])  # (U, 2, ...)
    whole = [units_of(run, min_speakers=2) for run in pair]
    _, _, exchanged = _sums(pair, task, [units for units, _ in whole])
    values, resampled = of_sums(sums.sum(axis=0)), of_sums(resample(sums, num_resamples, seed))  # (2,), (R, 2)
    p, exact = _permutation_p(exchanged, of_sums, num_permutations, seed)
    return Paired(
        metric=metric,
        baseline=float(values[0]),
        value=float(values[1]),
        difference=float(values[1] - values[0]),
        ci95=interval(resampled[:, 1] - resampled[:, 0]),
        ci_unit=units_of(baseline)[1],
        p=p,
        p_unit=whole[0][1],
        num_units=len(exchanged),
        exact=exact,
        speakers=_per_speaker(pair, task),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): adjusted p, to be compared with the level as they are.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _sums(pair: Sequence[Predictions], task: Task, units: Sequence[np.ndarray]) -> tuple[str, OfSums, np.ndarray]:
    """The metric's name, the metric of sums, and (U, 2, ...) sums of both runs, each for one training."""
    num_units = int(units[0].max(initial=0)) + 1
    found = [unit_sums(run, task, own, num_units) for run, own in zip(pair, units, strict=True)]
    metric, of_sums = next(iter(found[0][1].items()))
    once = min(map(len, pair)) if task.level == "frame" else max(1, len(set(pair[0].ids)))  # rows of one training
    seeds = [len(run) / max(1, once) for run in pair]
    return metric, of_sums, np.stack([sums / count for (sums, _), count in zip(found, seeds, strict=True)], axis=1)


def _permutation_p(sums: np.ndarray, of_sums: OfSums, num_permutations: int, seed: int) -> tuple[float, bool]:
    """Share of the exchanges whose difference is at least as large as the one seen; whether all were tried.

    Random exchanges count the one seen among them, so that p is never 0 (Phipson and Smyth 2010).
    """
    num_units, exact = len(sums), len(sums) <= EXACT
    flat = sums.reshape(num_units, 2, -1)  # (U, 2, K)
    change, total = flat[:, 1] - flat[:, 0], flat.sum(axis=(0, 1))  # (U, K), (K,)
    start = flat[:, 0].sum(axis=0)  # (K,)

    def difference(exchange: np.ndarray) -> np.ndarray:
        """(R, U) True = exchanged -> (R,)."""
        first = start + exchange.astype(np.float64) @ change  # (R, K)
        both = np.stack([first, total - first], axis=1).reshape(len(exchange), *sums.shape[1:])  # (R, 2, ...)
        values = of_sums(both)  # (R, 2)
        return values[:, 1] - values[:, 0]

    seen = abs(difference(np.zeros((1, num_units), dtype=bool))[0])
    block, rng = max(1, _BLOCK // num_units), np.random.default_rng(seed)
    count = 2**num_units if exact else num_permutations
    as_large = 0
    for begin in range(0, count, block):
        rows = np.arange(begin, min(begin + block, count))
        exchange = rows[:, None] >> np.arange(num_units) & 1 if exact else rng.integers(0, 2, (len(rows), num_units))
        as_large += int(np.sum(~(np.abs(difference(exchange)) < seen - _TIE)))
    return (as_large / count if exact else (as_large + 1) / (count + 1)), exact


def _per_speaker(pair: Sequence[Predictions], task: Task) -> list[tuple[str, float, float]]:
    """(speaker, baseline's value, run's value), the metric over the speaker's own utterances."""
    names = sorted({speaker for speaker in pair[0].speakers if speaker is not None})
    if not names or None in pair[0].speakers:
        return []
    _, of_sums, sums = _sums(pair, task, [positions(run.speakers, names) for run in pair])  # (S, 2, ...)
    return [(name, float(first), float(second)) for name, (first, second) in zip(names, of_sums(sums), strict=True)]
