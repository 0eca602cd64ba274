"""A run as one self-contained HTML page: no script, no address outside it, light and dark, readable on a phone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from undertone.downstream.task import Task
from undertone.files import atomic_path, read_json
from undertone.training import plots
from undertone.training.command import command_line
from undertone.training.metrics import calibration_bins
from undertone.training.pages import render
from undertone.training.predictions import Predictions
from undertone.training.results import METRICS, number, results_table, verdict

_MAIN = {"classification": ("uar", "wa", "macro_f1"), "regression": ("ccc", "rmse")}
_METRIC_OF_NAME = {name: metric for metric, name in METRICS.items()}
_COST = {
    "parameters": "parameters",
    "trained_parameters": "of them trained",
    "multiply_adds_per_second": "multiply-adds per second of sound",
    "real_time_factor": "real-time factor",
}


@dataclass(frozen=True)
class _RunFiles:
    """What the report reads of a finished run."""

    path: Path
    results: dict[str, Any]
    config: dict[str, Any]
    predictions: Predictions
    histories: list[list[dict[str, Any]]]  # of each fold, in the order of results["folds"]

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self.predictions.tasks


def write_report(run: Path) -> Path:
    """Write RUN/report.html from RUN's results.json, predictions.parquet, config.json and folds/NAME/history.json.

    The same files give the same bytes.

    Returns:
        The path of the page.

    Raises:
        ValueError: there is no run, or one of these files is missing (with the command that resumes the run) or
            cannot be read.
    """
    files = _read(Path(run))
    page = render("report.html.j2", **_content(files))
    with atomic_path(files.path / "report.html") as draft:
        draft.write_text(page, encoding="utf-8")
    return files.path / "report.html"


def _read(run: Path) -> _RunFiles:
    if not run.is_dir():
        raise ValueError(f"There is no run at {run}. Give the folder that `undertone crossval ... --out` wrote.")
    _need(run, [run / name for name in ("results.json", "predictions.parquet", "config.json")])
    results = read_json(run / "results.json")
    histories = [run / "folds" / quote(fold["name"], safe=" ") / "history.json" for fold in results["folds"]]
    _need(run, histories)
    predictions = Predictions.load(run / "predictions.parquet")
    return _RunFiles(run, results, read_json(run / "config.json"), predictions, [read_json(path) for path in histories])


def _need(run: Path, paths: list[Path]) -> None:
    """Refuse an unfinished run with what is missing, what is done, and the command that does the rest."""
    missing = [str(path.relative_to(run)) for path in paths if not path.is_file()]
    if not missing:
        return
    config = run / "config.json"
    command = command_line(read_json(config), run) if config.is_file() else f"undertone crossval CORPUS --out {run}"
    done = len(list(run.glob("folds/*/fold.json")))
    raise ValueError(
        f"The run {run} is not finished: {', '.join(missing)} missing, {done} folds done. "
        f"This resumes it, then ask for the report again: {command}"
    )


def _content(files: _RunFiles) -> dict[str, Any]:
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
        "main": _MAIN,
        "names": METRICS,
        "confusions": [_confusion(results, task) for task in files.tasks if task.kind == "classification"],
        "recalls": [_recalls(results, task) for task in files.tasks if task.kind == "classification"],
        "fold_bars": _fold_bars(results, files.tasks[0]),
        "figures": _figures(files),
        "cost": [(name, _short(results["cost"][key])) for key, name in _COST.items() if key in results.get("cost", {})],
        "config": files.config,
        "commands": results.get("commands") or [command_line(files.config, files.path)],
    }


def _tiles(files: _RunFiles) -> list[dict[str, str]]:
    """The large numbers at the top: the first task's metrics, then each other task's first one."""
    first, *others = files.tasks
    wanted = [(first, metric) for metric in _MAIN[first.kind]] + [(task, _MAIN[task.kind][0]) for task in others]
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
    metric = _MAIN[task.kind][0]
    bars = [(fold["name"], fold["metrics"][task.name][metric]) for fold in results["folds"]]
    return {
        "task": task.name,
        "metric": metric,
        "bars": bars,
        "chance": results["chance"][task.name][metric],
        "mean": results["mean"][task.name][metric],
    }


def _figures(files: _RunFiles) -> list[dict[str, str]]:
    """The pictures of the report: title, SVG and caption of each."""
    return [*_layer_figures(files), *_calibration_figures(files), *_training_figures(files)]


def _layer_figures(files: _RunFiles) -> list[dict[str, str]]:
    weights = [fold["layer_weights"] for fold in files.results["folds"] if fold.get("layer_weights")]
    if not weights or len(weights[0]) < 2:
        return []
    text = "Weight of each layer: bars are means over folds, dots single folds, the dashed line equal weights."
    return [{"title": "Layer weights", "svg": plots.layer_weights(np.array(weights)), "text": text}]


def _calibration_figures(files: _RunFiles) -> list[dict[str, str]]:
    task = files.tasks[0]
    rows = files.predictions.known(task)
    if task.kind != "classification" or not rows.any():
        return []
    bins = calibration_bins(files.predictions.targets[task.name][rows], files.predictions.scores[task.name][rows])
    ece = number("ece", files.results["pooled"][task.name]["ece"])
    text = f"How often {task.name} is right at each confidence; on the dashed line, as often as it says. ECE {ece} %."
    return [{"title": "Calibration", "svg": plots.reliability(*bins), "text": text}]


def _training_figures(files: _RunFiles) -> list[dict[str, str]]:
    task = files.tasks[0]
    metric = _MAIN[task.kind][0]
    scale, unit = (100, " (%)") if task.kind == "classification" else (1, "")
    marks = [fold.get("best_step") for fold in files.results["folds"]]
    dev = [
        [(item["step"], scale * item["dev"][task.name][metric]) for item in history if task.name in item.get("dev", {})]
        for history in files.histories
    ]
    loss = [
        [(item["step"], item["train_loss"]) for item in history if item["train_loss"] is not None]
        for history in files.histories
    ]
    found = []
    if any(dev):
        text = f"{METRICS[metric]} of {task.name} on dev; a line for each fold, a dot where its model was taken."
        svg = plots.curves(dev, marks, f"dev {METRICS[metric]}{unit}", "dev")
        found.append({"title": "Dev score", "svg": svg, "text": text})
    if any(loss):
        svg = plots.curves(loss, [None] * len(loss), "train loss", "loss")
        found.append({"title": "Training loss", "svg": svg, "text": "Mean loss on train, a line for each fold."})
    return found


def _short(value: float) -> str:
    """94,371,712 -> `94.4 M`."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.1f}{letter}"
    return f"{value:.3g}"
