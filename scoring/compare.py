"""Comparison of runs that were tested on the same utterances in the same folds, so that differences are paired.

The interval and p of a difference come from its standard error over speakers (see `intervals.py`): the interval
excludes 0 exactly when p < 0.05. A permutation test over speakers would decide differently: with four speakers its p is
never below 0.125.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from undertone.common.files import read_record
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
from undertone.scoring.results import EVALUATE, METRICS, ends_text, number, signed, to_json

HEADER = ["Task", "Metric", "Run", "Value", "Difference", "95 % interval", "p", "p (Holm)"]


@dataclass(frozen=True)
class FinishedRun:
    """The files of a run that a comparison needs."""

    path: Path
    results: dict[str, Any]
    predictions: Predictions


def compare_runs(runs: Sequence[str | Path]) -> dict[str, Any]:
    """Paired differences of each run from the first one, in UAR or CCC of every task that all of them have.

    The folders are those of finished runs, the baseline first.

    Returns:
        JSON: `runs` [{path, upstream, head, protocol}], `corpus`, `manifest_hash`, `num_utterances`, and `tasks`: name
        -> a list with the fields of `Paired` for each run after the first, with `run` (its index in `runs`) and
        `p_holm`, the p adjusted for the number of these runs; `ci95` and `p` are not adjusted.

    Raises:
        ValueError: fewer than two runs, an unfinished one, or runs whose utterances, labels, folds or tasks differ
            from the first. Evaluations have no folds, and are compared with any run on the same utterances.
    """
    if len(runs) < 2:
        raise ValueError(f"A comparison needs two or more runs, got {len(runs)}: undertone compare BASELINE RUN ...")
    first, *others = finished = [read_finished(Path(run)) for run in runs]
    for other in others:
        _check_same_test(first, other)
    tasks = [task for task in first.predictions.tasks if all(_same_task(task, other) for other in others)]
    if not tasks:
        named = [", ".join(f"{task.name} ({task.kind})" for task in run.predictions.tasks) for run in finished]
        listed = "; ".join(f"{run.path} has {tasks}" for run, tasks in zip(finished, named, strict=True))
        raise ValueError(f"These runs have no task in common: {listed}.")

    def compare_task(task: Task) -> list[dict[str, Any]]:
        found = [paired(first.predictions, other.predictions, task) for other in others]
        adjusted = zip(found, holm([entry.p for entry in found]), strict=True)
        return [
            {"run": place, **to_json(asdict(entry) | {"p_holm": p})} for place, (entry, p) in enumerate(adjusted, 1)
        ]

    return {
        "runs": [
            {"path": str(run.path)} | {key: run.results[key] for key in ("upstream", "head", "protocol")}
            for run in finished
        ],
        "corpus": first.results["corpus"],
        "manifest_hash": first.results["manifest_hash"],
        "num_utterances": len(set(first.predictions.ids)),
        "speaker_independent": all(run.results["speaker_independent"] for run in finished),
        "tasks": {task.name: compare_task(task) for task in tasks},
    }


def read_finished(run: Path) -> FinishedRun:
    """The results and predictions of a run; one that is missing or not finished is refused."""
    for name in ("results.json", "predictions.parquet"):
        if not (run / name).is_file():
            raise ValueError(f"{run} is not a finished run: there is no {run / name}. Finish it, then compare.")
    results = read_record(run / "results.json", folds=list, pooled=dict)
    return FinishedRun(run, results, Predictions.load(run / "predictions.parquet"))


def _check_same_test(first: FinishedRun, other: FinishedRun) -> None:
    """Refuse runs that were not tested on the same utterances and labels in the same folds."""
    hashes = [run.results.get("manifest_hash") for run in (first, other)]
    if hashes[0] != hashes[1]:
        raise ValueError(
            f"{first.path} and {other.path} cannot be compared: their manifests differ ({hashes[0]} and {hashes[1]}). "
            f"Compare runs on the same files, labels and corpus."
        )
    if EVALUATE in (first.results["protocol"], other.results["protocol"]):
        _check_same_utterances(first, other)
        return
    folds = [dict(zip(run.predictions.ids, run.predictions.folds, strict=True)) for run in (first, other)]
    if folds[0] != folds[1]:
        names = [", ".join(dict.fromkeys(fold.values())) for fold in folds]
        raise ValueError(
            f"{first.path} and {other.path} cannot be compared: their folds differ ({names[0]}; and {names[1]}). "
            f"Use the same protocol, num_folds and seed for both, and finish both."
        )


def _check_same_utterances(first: FinishedRun, other: FinishedRun) -> None:
    """Refuse an evaluation whose utterances or labels differ from those of the other run."""
    ids = [set(run.predictions.ids) for run in (first, other)]
    if ids[0] != ids[1]:
        raise ValueError(
            f"{first.path} and {other.path} cannot be compared: they test {len(ids[0])} and {len(ids[1])} utterances, "
            f"{len(ids[0] & ids[1])} of which are the same. Compare an evaluation with a cross-validation of the whole "
            f"corpus, or with an evaluation that was given the same --labels."
        )
    for task in (task for task in first.predictions.tasks if _same_task(task, other)):
        truths = [
            dict(zip(run.predictions.ids, run.predictions.targets[task.name].tolist(), strict=True))
            for run in (first, other)
        ]
        if changed := [name for name, truth in truths[0].items() if truth == truth and truth != truths[1][name]]:
            raise ValueError(
                f"{first.path} and {other.path} cannot be compared: {len(changed)} labels of {task.name} differ "
                f"(first: {changed[0]}). Use the same --map for both; a run compares only without --map."
            )


def _same_task(task: Task, run: FinishedRun) -> bool:
    key = (task.name, task.kind, task.labels, task.level)
    return any((other.name, other.kind, other.labels, other.level) == key for other in run.predictions.tasks)


def comparison_table(comparison: Mapping[str, Any]) -> tuple[list[str], list[str], list[list[str]]]:
    """Title lines, header and rows of text of a comparison, for the page."""
    runs, rows = run_names(comparison), []
    for task, entries in comparison["tasks"].items():
        metric = entries[0]["metric"]
        rows.append([task, METRICS[metric], runs[0], number(metric, entries[0]["baseline"]), "baseline", "", "", ""])
        for entry in entries:
            interval = ends_text(metric, entry["ci95"], signed) or "–"
            values = [number(metric, entry["value"]), signed(metric, entry["difference"]), interval]
            rows.append([task, METRICS[metric], runs[entry["run"]], *values, _p(entry["p"]), _p(entry["p_holm"])])
    return _title_lines(comparison), list(HEADER), rows


def narrow_table(comparison: Mapping[str, Any]) -> tuple[list[str], list[str], list[list[str]]]:
    """As `comparison_table`, for 80 columns: a line names each task, and Holm's p is there where it is another one."""
    titles, header, rows = comparison_table(comparison)
    columns = range(2, len(header) if len(comparison["runs"]) > 2 else len(header) - 1)
    lines: list[list[str]] = []
    for place, row in enumerate(rows):
        if not place or row[0] != rows[place - 1][0]:
            lines.append([f"{row[1]} of {row[0]}", *("" for _ in columns[1:])])
        lines.append([row[column] for column in columns])
    return titles, [header[column] for column in columns], lines


def run_names(comparison: Mapping[str, Any]) -> list[str]:
    """The name of each run's folder, or the whole paths if two names are the same."""
    paths = [Path(run["path"]) for run in comparison["runs"]]
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    if value < 0.0001:
        return "< 0.0001"
    return f"{value:.4f}" if value < 0.1 else f"{value:.2f}"


def detectable(comparison: Mapping[str, Any], task: str) -> list[str]:
    """Sentences on the smallest difference that each comparison of a task can detect."""
    entries, names = comparison["tasks"][task], run_names(comparison)
    lines = []
    for entry in entries:
        about = f"{task}, {names[entry['run']]}" if len(entries) > 1 else task
        if entry["note"]:
            lines.append(entry["note"])
        elif entry["detectable"]:
            size = number(entry["metric"], entry["detectable"])
            points = f"{size} points" if entry["metric"] == "uar" else f"{size} in {METRICS[entry['metric']]}"
            speakers = f"With these {entry['num_speakers']} speakers"
            lines.append(f"{about}: {speakers} a difference under {points} cannot be told from chance.")
    return list(dict.fromkeys(lines))


def _title_lines(comparison: Mapping[str, Any]) -> list[str]:
    """Sentences without which the numbers would be misread; the first names what was compared."""
    protocols = dict.fromkeys(run["protocol"] for run in comparison["runs"])
    folds = "" if EVALUATE in protocols else " in the same folds"
    lines = [
        f"{comparison['corpus']}: {len(comparison['runs'])} runs on the same {comparison['num_utterances']} test "
        f"utterances{folds}; differences from {run_names(comparison)[0]}"
    ]
    if not comparison["speaker_independent"]:
        lines.append("SPEAKER-DEPENDENT: test speakers may be in training; differences may not hold for new speakers.")
    trained = [protocol for protocol in protocols if protocol != EVALUATE]
    if len(trained) > 1:
        lines.append(
            f"DIFFERENT TRAINING DATA: {' and '.join(trained)} have the same test parts but other train and dev parts."
        )
    if trained and len(trained) < len(protocols):
        lines.append("DIFFERENT TRAINING DATA: an evaluation tests one model, a cross-validation one model per fold.")
    for task in comparison["tasks"]:
        lines += detectable(comparison, task)
    count = len(comparison["runs"]) - 1
    lines.append(
        f"95 % interval and two-sided p of each difference: jackknife over speakers, Student's t; the interval "
        f"excludes 0 exactly when p < 0.05. Holm: p adjusted for the {count} comparison{'s' * (count > 1)} per task. "
        f"Fractions and their differences in %."
    )
    return lines


# ---- Two runs.


@dataclass(frozen=True)
class Paired:
    """How a run differs from a baseline in one metric.

    Attributes:
        metric: `uar` of a classification, `ccc` of a regression.
        baseline: pooled value of the baseline.
        value: pooled value of the run.
        difference: value - baseline.
        ci95: interval of the difference over speakers; NaN if there is none.
        p: two-sided; below 0.05 exactly when `ci95` excludes 0; NaN if there is none.
        detectable: the smallest difference with p below 0.05, if runs vary between speakers as these do: half the
            width of the interval.
        num_speakers: speakers with a label.
        df: degrees of freedom of Student's t.
        note: why there is no interval, or "".
        speakers: (speaker, value of the baseline, of the run), if speakers are known.
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
    """Compare two runs' test predictions of the same utterances in the main metric of one task.

    A run with several seeds has one row per seed and utterance.
    """
    pair = [run.select(np.argsort(run.ids, kind="stable")) for run in (baseline, other)]
    name, metric = next(iter(metrics_of(task).items()))
    speakers = sorted(set(pair[0].speakers), key=lambda speaker: (speaker is None, speaker or ""))
    once = min(map(len, pair)) if task.level == "frame" else max(1, len(set(pair[0].ids)))  # rows of one seed
    found = [
        unit_sums(run, task, positions(run.speakers, speakers), len(speakers)) / (len(run) / max(1, once))
        for run in pair
    ]
    sums = np.stack(found, axis=1)  # (S, 2, ...), divided by the number of seeds
    first, second = (float(value) for value in metric.of(sums.sum(axis=0)))
    if note := why_none(pair[0], task, sums[:, 0], metric):
        reach, p, df = math.nan, math.nan, math.nan
    else:
        reach, p, df = (float(value) for value in decide(sums, metric))
        if math.isnan(p):
            note = f"No interval for {task.name}: the difference is the same for all test speakers."
    values = metric.of(sums).tolist()  # (S, 2)
    per_speaker = [(str(speaker), one, two) for speaker, (one, two) in zip(speakers, values, strict=True)]
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
        speakers=[] if None in speakers else per_speaker,
    )


def decide(sums: np.ndarray, metric: Metric) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half the width of the 95 % interval of a difference, its two-sided p, and the degrees of freedom; each (...).

    Args:
        sums: (..., S, 2, ...) of two systems on the same utterances; see `standard_error`.
        metric: in which they differ.

    Returns:
        0 and 1 if the two systems' results are the same; NaN if all speakers differ by the same amount, from which
        nothing follows for other speakers.
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
    """Holm's step-down adjustment (1979) of p; NaN stays NaN.

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
