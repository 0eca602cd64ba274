"""Intervals for new speakers, from three test speakers on: a jackknife over speakers with Student's t.

Utterances of one speaker are not independent, so the unit of variation is the speaker. Each speaker is left out (for
UAR and macro-F1 its utterances of one class at a time), the metric of the rest is computed, and the changes are
combined: with `h` the speaker's fraction of the utterances, a change has the weight sqrt(1 - h), which makes the
variance of a mean unbiased, also if speakers lack classes (the CR2 correction of Bell and McCaffrey 2002, "Bias
reduction in standard errors for linear regression with multi-stage samples"). The degrees of freedom are theirs too
(Satterthwaite's approximation): speakers - 1 if all speakers have the same number of utterances per class, otherwise
fewer. Imbens and Kolesar 2016, "Robust standard errors in small samples", explain why few clusters need both. The
interval of a bounded metric is symmetric on the scale of its logit (CCC: Fisher's z), so that it stays in bounds.
docs/statistics.md shows the coverage.

Metrics are functions of sums that are additive over speakers (confusion counts or moments).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, stdtr, stdtrit

from undertone.downstream.task import Task
from undertone.scoring.metrics import ccc_of, macro_f1_of, moment_rows, rmse_of, uar_of, wa_of
from undertone.scoring.predictions import Predictions

MIN_SPEAKERS = 3
LEVEL = 0.95
METHOD = "jackknife over speakers, Student's t"
ROUNDING = 1e-12  # below it a difference between speakers is one of rounding


@dataclass(frozen=True)
class Metric:
    """A metric that has intervals.

    Attributes:
        of: (..., C, C) confusion counts or (..., 6) moments -> (...).
        by_class: whether each class has the same weight, whatever its number of utterances.
        counts: (..., C, C) or (..., 6) -> (..., G) labelled utterances of each class, or of all (G = 1).
        scale: to an unbounded scale, on which intervals are symmetric.
        slope: derivative of `scale`.
        back: inverse of `scale`.
    """

    of: Callable[[np.ndarray], np.ndarray]
    by_class: bool
    counts: Callable[[np.ndarray], np.ndarray]
    scale: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


def _fraction(of: Callable[[np.ndarray], np.ndarray], by_class: bool) -> Metric:
    """A metric of confusion counts between 0 and 1."""

    def counts(sums: np.ndarray) -> np.ndarray:
        each = sums.sum(axis=-1)  # (..., C)
        return np.asarray(each if by_class else each.sum(axis=-1, keepdims=True))

    return Metric(of, by_class, counts, logit, lambda value: 1 / (value * (1 - value)), expit)


_CLASSIFICATION = {
    "uar": _fraction(uar_of, by_class=True),
    "wa": _fraction(wa_of, by_class=False),
    "macro_f1": _fraction(macro_f1_of, by_class=True),
}
_REGRESSION = {
    "ccc": Metric(ccc_of, False, lambda sums: sums[..., :1], np.arctanh, lambda value: 1 / (1 - value**2), np.tanh),
    "rmse": Metric(rmse_of, False, lambda sums: sums[..., :1], np.log, lambda value: 1 / value, np.exp),
}


def metrics_of(task: Task) -> dict[str, Metric]:
    """The metrics of a task that have intervals, the main metric first."""
    return _REGRESSION if task.kind == "regression" else _CLASSIFICATION


def confidence_intervals(
    predictions: Predictions, *, level: float = LEVEL
) -> tuple[dict[str, dict[str, list[float]]], list[str]]:
    """Intervals of UAR, WA and macro-F1, or of CCC and RMSE, for every task.

    Returns:
        task -> metric -> [low, high], NaN if there is no interval; and a sentence for each reason: a speaker is
        unknown, there are fewer than three, a class has only one speaker, or all speakers score the same.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}.")
    intervals: dict[str, dict[str, list[float]]] = {}
    notes: list[str] = []
    for task in predictions.tasks:
        sums, intervals[task.name] = speaker_sums(predictions, task), {}
        for name, metric in metrics_of(task).items():
            ends, reason = [math.nan, math.nan], why_none(predictions, task, sums, metric)
            if reason is None:
                ends = interval(sums, metric, level).tolist()
                if math.isnan(ends[0]):
                    reason = f"No interval for a score of {task.name} that is the same for all test speakers."
            intervals[task.name][name] = ends
            notes += [reason] if reason and reason not in notes else []
    return intervals, notes


def interval(sums: np.ndarray, metric: Metric, level: float = LEVEL) -> np.ndarray:
    """(..., 2) low and high ends for a metric of (..., S, ...) sums of speakers, symmetric on its scale.

    NaN if the width is 0. Every class of a metric `by_class` must have two speakers or none, see `why_none`.
    """
    error, df = standard_error(sums, metric)  # (...), (...)
    value = metric.of(sums.sum(axis=error.ndim))  # (...)
    reach = np.where(error > ROUNDING, t_quantile(df, level) * error, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        middle, reach = metric.scale(value), reach * metric.slope(value)
        ends = np.stack([metric.back(middle - reach), metric.back(middle + reach)], axis=-1)  # (..., 2)
    return np.where(np.isfinite(ends), ends, np.nan)


def why_none(predictions: Predictions, task: Task, sums: np.ndarray, metric: Metric) -> str | None:
    """Why a metric of the (S, ...) sums of speakers has no interval; None if it has one."""
    counts = metric.counts(sums)  # (S, G)
    if not counts.any():
        return f"No interval for {task.name}: no test utterance has a label."
    if None in predictions.speakers:
        return "No intervals: they are for new speakers, and the speakers of some test utterances are unknown."
    speakers = int(counts.any(axis=1).sum())
    if speakers < MIN_SPEAKERS:
        some = "1 test speaker" if speakers == 1 else f"{speakers} test speakers"
        return f"No interval for {task.name}: {some} cannot show how speakers vary; at least {MIN_SPEAKERS} are needed."
    having = (counts > 0).sum(axis=0)  # (G,)
    if metric.by_class and (having == 1).any():
        alone = ", ".join(label for label, count in zip(task.labels, having, strict=True) if count == 1)
        return (
            f"No interval for UAR and macro-F1 of {task.name}: only one test speaker has {alone}, which cannot show "
            f"how speakers vary."
        )
    return None


def speaker_sums(predictions: Predictions, task: Task) -> np.ndarray:
    """(S, C, C) confusion counts or (S, 6) moments of each speaker, in the order of their names, None last."""
    names = sorted(set(predictions.speakers), key=lambda name: (name is None, name or ""))
    return unit_sums(predictions, task, positions(predictions.speakers, names), len(names))


def positions(values: Sequence[str | None], names: Sequence[str | None]) -> np.ndarray:
    """(N,) int64 index of each value in `names`."""
    index = {name: place for place, name in enumerate(names)}
    return np.array([index[value] for value in values], dtype=np.int64)


def unit_sums(predictions: Predictions, task: Task, units: np.ndarray, num_units: int) -> np.ndarray:
    """Sums over the labelled utterances of each unit (N,): (U, C, C) confusion counts, or (U, 6) moments, float64."""
    rows = predictions.known(task)
    target, predicted, unit = predictions.targets[task.name][rows], predictions.predicted(task)[rows], units[rows]
    if task.kind == "regression":
        columns = moment_rows(target, predicted).T  # (6, N)
        return np.stack([np.bincount(unit, column, num_units) for column in columns], axis=1)  # (U, 6)
    size = len(task.labels)
    cells = np.bincount((unit * size + target) * size + predicted, minlength=num_units * size * size)
    return cells.reshape(num_units, size, size).astype(np.float64)  # (U, C, C)


def standard_error(sums: np.ndarray, metric: Metric, *, paired: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of a metric of all speakers' sums, and its degrees of freedom; any leading dimensions.

    Args:
        sums: (..., S, C, C) confusion counts or (..., S, 6) moments of S speakers; paired: (..., S, 2, C, C) or
            (..., S, 2, 6).
        metric: each of its classes has two speakers or none, see `why_none`.
        paired: of the difference between two systems, the second minus the first.

    Returns:
        (...) and (...).
    """

    def statistic(some: np.ndarray) -> np.ndarray:
        values = metric.of(some)
        return values[..., 1] - values[..., 0] if paired else values

    counts = metric.counts(sums)  # (..., S, [2,] G)
    counts = counts.mean(axis=-2) if paired else counts  # (..., S, G)
    totals = counts.sum(axis=-2, keepdims=True)  # (..., 1, G)
    fractions = counts / np.where(totals, totals, 1)  # (..., S, G)
    speakers = counts.ndim - 2
    total = sums.sum(axis=speakers, keepdims=True)  # (..., 1, ...)
    whole, changes = statistic(total), np.zeros(counts.shape[:-1])  # (..., 1), (..., S)
    for group in range(counts.shape[-1]):
        rows = (..., group, slice(None)) if metric.by_class else (...,)
        left = np.repeat(total, sums.shape[speakers], axis=speakers)  # (..., S, ...)
        left[rows] -= sums[rows]
        changes += np.sqrt(1 - fractions[..., group]) * (whole - statistic(left))
    return np.sqrt(np.sum(changes**2, axis=-1)), _degrees_of_freedom(fractions)


def _degrees_of_freedom(fractions: np.ndarray) -> np.ndarray:
    """Satterthwaite's approximation, for speakers whose recalls have the same variance in all classes.

    The changes are linear in the recalls: change = sum_k b_k (I - 1 h_k') recall_k, whose covariance M has the degrees
    of freedom tr(M)^2 / tr(M^2); M is a diagonal plus a product of thin matrices, so no (S, S) matrix is made.

    Args:
        fractions: (..., S, G) fraction of a group's utterances that a speaker has; below 1.

    Returns:
        (...).
    """
    weights = fractions / np.sqrt(1 - fractions)  # (..., S, G) b
    diagonal = np.sum(weights**2, axis=-1)  # (..., S)
    crossed = fractions * weights
    summed = weights * np.sum(fractions**2, axis=-2, keepdims=True)
    first = np.concatenate([weights, crossed, summed], axis=-1)  # (..., S, 3 G)
    second = np.concatenate([-crossed, -weights, weights], axis=-1)  # (..., S, 3 G)
    own, small = np.sum(first * second, axis=-1), np.swapaxes(second, -1, -2) @ first  # (..., S), (..., 3 G, 3 G)
    squared = np.sum(diagonal**2 + 2 * diagonal * own, axis=-1) + np.sum(small * np.swapaxes(small, -1, -2), (-2, -1))
    return np.asarray(np.sum(diagonal + own, axis=-1) ** 2 / squared)


def t_quantile(df: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Half the width, in standard errors, of the central `level` of Student's t."""
    return np.asarray(stdtrit(df, (1 + level) / 2))


def t_p(statistic: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Two-sided p of values of Student's t."""
    return np.asarray(2 * stdtr(df, -np.abs(statistic)))
