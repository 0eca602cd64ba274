"""Runs beside each other: the same utterances tested in the same folds, so that differences are paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from undertone.common.files import read_record
from undertone.downstream.task import Task
from undertone.scoring.paired import holm, paired
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import EVALUATE, METRICS, number, to_json

HEADER = ["Task", "Metric", "Run", "Value", "Difference", "95 % interval", "p", "p (Holm)"]


@dataclass(frozen=True)
class FinishedRun:
    """What a comparison reads of a finished run."""

    path: Path
    results: dict[str, Any]
    predictions: Predictions


def compare_runs(runs: Sequence[Path]) -> dict[str, Any]:
    """The paired differences of each run from the first one, in UAR or CCC of every task that all of them have.

    Args:
        runs: folders of finished runs, the baseline first.

    Returns:
        JSON: `runs` [{path, upstream, head, protocol}], `corpus`, `manifest_hash`, `num_utterances`, and `tasks`: name
        -> a list with the fields of `Paired` for each run after the first, with `run` (its place in `runs`) and
        `p_holm`, the p adjusted for the number of these runs. `ci95` excludes 0 exactly when `p` < 0.05: both are of
        one comparison alone; only `p_holm` allows for several.

    Raises:
        ValueError: fewer than two runs, one that is not finished, or runs on other utterances, labels, folds or tasks
            than the first. Evaluations have no folds, and are compared with any run on the same utterances.
    """
    if len(runs) < 2:
        raise ValueError(f"A comparison needs two runs or more, got {len(runs)}: undertone compare BASELINE RUN ...")
    first, *others = finished = [read_finished(Path(run)) for run in runs]
    for other in others:
        _check_same_test(first, other)
    tasks = [task for task in first.predictions.tasks if all(_same_task(task, other) for other in others)]
    if not tasks:
        raise ValueError(f"These runs predict nothing in common: {'; '.join(map(_named_tasks, finished))}.")
    return {
        "runs": [
            {"path": str(run.path)} | {key: run.results[key] for key in ("upstream", "head", "protocol")}
            for run in finished
        ],
        "corpus": first.results["corpus"],
        "manifest_hash": first.results["manifest_hash"],
        "num_utterances": len(set(first.predictions.ids)),
        "speaker_independent": all(run.results["speaker_independent"] for run in finished),
        "tasks": {task.name: _compare_task(first, others, task) for task in tasks},
    }


def read_finished(run: Path) -> FinishedRun:
    """The results and predictions of a run.

    Raises:
        ValueError: it is not finished, or there is none.
    """
    for name in ("results.json", "predictions.parquet"):
        if not (run / name).is_file():
            raise ValueError(f"{run} is not a finished run: there is no {run / name}. Finish it, then compare.")
    return FinishedRun(
        run, read_record(run / "results.json", folds=list, pooled=dict), Predictions.load(run / "predictions.parquet")
    )


def _check_same_test(first: FinishedRun, other: FinishedRun) -> None:
    """Refuse runs that were not tested on the same utterances and labels, or by models of other folds."""
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
    """Refuse an evaluation of other utterances, or of labels in other words, than those of the run beside it."""
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
                f"(first: {changed[0]}). Give both evaluations the same --map, and a corpus that needs none otherwise."
            )


def _same_task(task: Task, run: FinishedRun) -> bool:
    key = (task.name, task.kind, task.labels, task.level)
    return any((other.name, other.kind, other.labels, other.level) == key for other in run.predictions.tasks)


def _named_tasks(run: FinishedRun) -> str:
    return f"{run.path} has " + ", ".join(f"{task.name} ({task.kind})" for task in run.predictions.tasks)


def _compare_task(first: FinishedRun, others: Sequence[FinishedRun], task: Task) -> list[dict[str, Any]]:
    found = [paired(first.predictions, other.predictions, task) for other in others]
    adjusted = holm([entry.p for entry in found])
    return [
        {"run": place, **to_json(asdict(entry) | {"p_holm": p})}
        for place, (entry, p) in enumerate(zip(found, adjusted, strict=True), 1)
    ]


def comparison_table(comparison: Mapping[str, Any]) -> tuple[list[str], list[str], list[list[str]]]:
    """Title lines, header and rows of text of what `compare_runs` returned, for the terminal and the page."""
    runs, rows = run_names(comparison), []
    for task, entries in comparison["tasks"].items():
        metric = entries[0]["metric"]
        rows.append([task, METRICS[metric], runs[0], number(metric, entries[0]["baseline"]), "baseline", "", "", ""])
        for entry in entries:
            ends = [signed(metric, end) for end in entry["ci95"]]
            interval = "–" if entry["ci95"][0] is None else f"{ends[0]} – {ends[1]}"
            values = [number(metric, entry["value"]), signed(metric, entry["difference"]), interval]
            rows.append([task, METRICS[metric], runs[entry["run"]], *values, _p(entry["p"]), _p(entry["p_holm"])])
    return _title_lines(comparison), list(HEADER), rows


def run_names(comparison: Mapping[str, Any]) -> list[str]:
    """What tells the runs apart: the folder's name, or its whole path where two have one name."""
    paths = [Path(run["path"]) for run in comparison["runs"]]
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def signed(metric: str, value: float | None) -> str:
    """A difference as the tables show it: `+1.2` points for a share, `-0.012` for CCC."""
    text = number(metric, value)
    return text if value is None or value < 0 else f"+{text}"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if value < 0.1 else f"{value:.2f}"


def detectable(comparison: Mapping[str, Any], task: str) -> list[str]:
    """Sentences on what the speakers of a task's comparisons can and cannot tell, one for each run."""
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
        lines.append(f"OTHER TRAINING PARTS: {' and '.join(trained)} test alike, but divide train and dev otherwise.")
    if trained and len(trained) < len(protocols):
        lines.append("OTHER TRAINING PARTS: an evaluation is of one finished model, a cross-validation of each fold's.")
    for task in comparison["tasks"]:
        lines += detectable(comparison, task)
    count = len(comparison["runs"]) - 1
    lines.append(
        f"95 % intervals and two-sided p of each difference: jackknife over speakers, Student's t; the interval "
        f"excludes 0 exactly when p < 0.05. Holm: p adjusted for the {count} comparison{'s' * (count > 1)} of a task. "
        f"Fractions and their differences in %."
    )
    return lines
