"""A run as one self-contained HTML page (no script, no address outside it, light and dark) and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from undertone.common.files import atomic_path, remove_drafts
from undertone.downstream.task import Task
from undertone.experiments.run_folder import RunFolder
from undertone.report.figures import MAIN, attention_clips, embedding_maps, figures
from undertone.report.pages import render
from undertone.scoring.intervals import metrics_of, positions, unit_sums
from undertone.scoring.raters import rater_agreement
from undertone.scoring.results import METRICS, number, only_fold, results_table, verdict
from undertone.training.settings import command_line

_METRIC_OF_NAME = {name: metric for metric, name in METRICS.items()}
_COST = {
    "parameters": "parameters",
    "trained_parameters": "of them trained",
    "multiply_adds_per_second": "multiply-adds per second of sound",
    "real_time_factor": "real-time factor",
}


def write_report(run: Path) -> Path:
    """Write RUN/report.html and RUN/report.md from the files of a finished run; the same files give the same bytes.

    Returns:
        The path of the HTML page.

    Raises:
        ValueError: there is no run, or one of these files is missing (with the command that resumes the run) or
            cannot be read.
    """
    files = RunFolder.finished(Path(run))
    remove_drafts(files.path)
    content = _content(files)
    for name in ("report.html", "report.md"):
        with atomic_path(files.path / name) as draft:
            draft.write_text(render(f"{name}.j2", **content), encoding="utf-8")
    return files.path / "report.html"


def _content(files: RunFolder) -> dict[str, Any]:
    """Everything that the template shows."""
    results = files.results
    titles, header, rows = results_table(results)
    return {
        "results": results,
        "verdict": verdict(results),
        "titles": [(line, line.partition(":")[0].isupper()) for line in titles[1:]],  # SPEAKER-DEPENDENT: ...
        "header": header,
        "rows": [(row, _strip(results, row[0], row[1])) for row in rows],
        "tiles": _tiles(files),
        "tasks": files.tasks,
        "main": MAIN,
        "names": METRICS,
        "confusions": [_confusion(results, task) for task in files.tasks if task.kind == "classification"],
        "recalls": [_recalls(results, task) for task in files.tasks if task.kind == "classification"],
        "fold_bars": _fold_bars(results, files.tasks[0]),
        "speaker_bars": _speaker_bars(files),
        "raters": rater_agreement(files.predictions, files.votes()),
        "figures": figures(files),
        "embedding_maps": embedding_maps(files),
        "attention": attention_clips(files),
        "cost": [(name, _short(results["cost"][key])) for key, name in _COST.items() if key in results.get("cost", {})],
        "config": files.config,
        "commands": _commands(files),
    }


def _commands(files: RunFolder) -> list[str]:
    """What makes the run, or the evaluation, again."""
    given: list[str] = files.results.get("commands", [])
    if given or not files.config:
        return given
    return [command_line(files.config, files.path, only_fold(files.results))]


def _tiles(files: RunFolder) -> list[dict[str, str]]:
    """The large numbers at the top: the first task's metrics, then each other task's first one."""
    first, *others = files.tasks
    wanted = [(first, metric) for metric in MAIN[first.kind]] + [(task, MAIN[task.kind][0]) for task in others]
    tiles = []
    for task, metric in wanted[:4]:
        low, high = files.results["ci95"][task.name].get(metric, (None, None))
        value = number(metric, files.results["pooled"][task.name][metric])
        interval = "" if low is None else f"{number(metric, low)} – {number(metric, high)}"
        tiles.append({"task": task.name, "metric": METRICS[metric], "value": value, "interval": interval})
    return tiles


def _strip(results: Mapping[str, Any], task: str, name: str) -> dict[str, float] | None:
    """Where a row's interval, value and chance lie, in percent of a bar from 0 to 1; None without an interval."""
    metric = _METRIC_OF_NAME[name]
    low, high = results["ci95"][task].get(metric, (None, None))
    value, chance = results["pooled"][task][metric], results["chance"][task].get(metric)
    if low is None or value is None:
        return None
    places = {"low": low, "high": high, "value": value} | ({} if chance is None else {"chance": chance})
    return {key: round(100 * min(max(place, 0.0), 1.0), 2) for key, place in places.items()}


def _confusion(results: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Rows of (label, number of utterances, cells of (count, share of the row or None))."""
    counts = np.array(results["confusion"][task.name])  # (C, C)
    totals = counts.sum(axis=1).tolist()
    rows = [
        (label, total, [(count, count / total if total else None) for count in row])
        for label, total, row in zip(task.labels, totals, counts.tolist(), strict=True)
    ]
    return {"task": task.name, "labels": task.labels, "rows": rows}


def _recalls(results: Mapping[str, Any], task: Task) -> dict[str, Any]:
    recall = results["pooled"][task.name]["recall"]
    return {"task": task.name, "bars": [(label, recall[label]) for label in task.labels], "metric": "uar"}


def _fold_bars(results: Mapping[str, Any], task: Task) -> dict[str, Any]:
    metric = MAIN[task.kind][0]
    bars = [(fold["name"], fold["metrics"][task.name][metric]) for fold in results["folds"]]
    return {
        "task": task.name,
        "metric": metric,
        "bars": bars,
        "chance": results["chance"][task.name][metric],
        "mean": results["mean"][task.name][metric],
    }


def _speaker_bars(files: RunFolder) -> list[tuple[str, float | None]]:
    """(speaker, first metric of the first task over its utterances), the best first.

    Empty where a speaker is unknown, and where every fold tests one speaker: its bars are then the folds'.
    """
    predictions, task = files.predictions, files.tasks[0]
    names = sorted({speaker for speaker in predictions.speakers if speaker is not None})
    pairs = set(zip(predictions.folds, predictions.speakers, strict=True))
    if not names or None in predictions.speakers or len(pairs) == len(set(predictions.folds)):
        return []
    sums = unit_sums(predictions, task, positions(predictions.speakers, names), len(names))  # (S, ...)
    values = metrics_of(task)[MAIN[task.kind][0]].of(sums)  # (S,)
    bars = [(name, None if np.isnan(value) else float(value)) for name, value in zip(names, values, strict=True)]
    return sorted(bars, key=lambda bar: -1.0 if bar[1] is None else bar[1], reverse=True)


def _short(value: float) -> str:
    """94,371,712 -> `94.4 M`."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.1f}{letter}"
    return f"{value:.3g}"
