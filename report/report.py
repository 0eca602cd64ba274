"""The report of a run: a self-contained HTML page (no scripts, no external links, light and dark) and Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from undertone.common.files import remove_drafts
from undertone.downstream.task import Task
from undertone.experiments.robustness import KINDS, robustness_table
from undertone.experiments.run_folder import RunFolder
from undertone.report.data import data_section
from undertone.report.figures import attention_clips, embedding_maps, figures
from undertone.report.tables import Table
from undertone.scoring.by_corpus import corpus_table
from undertone.scoring.intervals import metrics_of, speaker_sums
from undertone.scoring.pages import write_page
from undertone.scoring.raters import rater_agreement
from undertone.scoring.results import (
    MAIN,
    METRICS,
    gender_table,
    interval_text,
    number,
    only_fold,
    results_table,
    verdict,
)
from undertone.training.settings import command_line

_METRIC_OF_NAME = {name: metric for metric, name in METRICS.items()}
_COST = {
    "parameters": "parameters",
    "trained_parameters": "trained parameters",
    "multiply_adds_per_second": "multiply-adds per second of audio",
    "real_time_factor": "real-time factor",
}


def write_report(run: Path) -> Path:
    """Write RUN/report.html and RUN/report.md from the files of a finished run; returns the HTML page's path.

    The same files give the same bytes. A ValueError says which file is missing, with the command that resumes the run.
    """
    files = RunFolder.finished(Path(run))
    remove_drafts(files.path)
    content = _content(files)
    for name in ("report.html", "report.md"):
        write_page(files.path / name, Path(__file__).with_name(f"{name}.j2"), **content)
    return files.path / "report.html"


def _content(files: RunFolder) -> dict[str, Any]:
    """The variables of the templates."""
    results = files.results
    titles, header, rows = results_table(results)
    speaker_bars = _speaker_bars(files)
    return {
        "results": results,
        "verdict": verdict(results),
        "titles": [(line, line.partition(":")[0].isupper()) for line in titles[1:]],  # SPEAKER-DEPENDENT: ...
        "scores": Table(f"Results on {results['corpus']}", header, rows, texts=2),
        "strips": [_strip(results, row[0], row[1]) for row in rows],
        "data": data_section(manifest, files.tasks[0]) if (manifest := files.manifest) is not None else None,
        "tiles": _tiles(files),
        "names": METRICS,
        "genders": Table("Scores by gender", *gender_table(results), texts=2),
        "corpora": Table("Scores by corpus", *corpus_table(results), texts=3),
        "confusions": [_confusion(results, task) for task in files.tasks if task.kind == "classification"],
        "fold_bars": _fold_bars(results, files.tasks[0]),
        "folds": _bar_table("Folds", _fold_bars(results, files.tasks[0])),
        "speaker_bars": speaker_bars,
        "speakers": _bar_table("Speakers", _fold_bars(results, files.tasks[0]) | {"bars": speaker_bars}),
        "raters": rater_agreement(files.predictions, files.votes()),
        "figures": figures(files),
        "embedding_maps": embedding_maps(files),
        "robustness": _robustness(files.robustness) if files.robustness else None,
        "attention": attention_clips(files),
        "cost": [(name, _short(results["cost"][key])) for key, name in _COST.items() if key in results.get("cost", {})],
        "config": files.config,
        "commands": results.get("commands")
        or ([command_line(files.config, files.path, only_fold(results))] if files.config else []),
    }


def _tiles(files: RunFolder) -> list[dict[str, str]]:
    """The large numbers at the top: the first task's metrics, then each other task's first one."""
    first, *others = files.tasks
    wanted = [(first, metric) for metric in MAIN[first.kind]] + [(task, MAIN[task.kind][0]) for task in others]
    tiles = []
    for task, metric in wanted[:4]:
        value = number(metric, files.results["pooled"][task.name][metric])
        interval = interval_text(files.results, task.name, metric)
        tiles.append({"task": task.name, "metric": METRICS[metric], "value": value, "interval": interval})
    return tiles


def _robustness(tested: Mapping[str, Any]) -> dict[str, Any]:
    """Bars of each kind of disturbance beside the clean score, and the table."""
    titles, header, rows = robustness_table(tested)
    metric, (clean, *others) = tested["metric"], tested["conditions"]
    groups = [
        {"title": title, "bars": [(one["name"], one["metrics"][metric]) for one in others if one["kind"] == kind]}
        for kind, title in KINDS.items()
        if any(one["kind"] == kind for one in others)
    ]
    table = Table(f"Robustness: {METRICS[metric]} of {tested['task']}", header, rows)
    return {"metric": metric, "clean": clean["metrics"][metric], "groups": groups, "table": table, "text": titles[0]}


def _strip(results: Mapping[str, Any], task: str, name: str) -> dict[str, float] | None:
    """Positions of a row's interval, value and chance, in percent of a bar from 0 to 1; None without an interval."""
    if name not in _METRIC_OF_NAME:  # the calibrated ECE
        return None
    metric = _METRIC_OF_NAME[name]
    low, high = results["ci95"][task].get(metric, (None, None))
    value, chance = results["pooled"][task][metric], results["chance"][task].get(metric)
    if low is None or value is None:
        return None
    places = {"low": low, "high": high, "value": value} | ({} if chance is None else {"chance": chance})
    return {key: round(100 * min(max(place, 0.0), 1.0), 2) for key, place in places.items()}


def _confusion(results: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Rows of (label, cells of (count, fraction of the row or None)), and (label, recall) pairs."""
    counts = np.array(results["confusion"][task.name])  # (C, C)
    rows = [
        (label, [(count, count / sum(row) if sum(row) else None) for count in row])
        for label, row in zip(task.labels, counts.tolist(), strict=True)
    ]
    recalls = [(label, results["pooled"][task.name]["recall"][label]) for label in task.labels]
    cells = [
        [label, *map(str, row), number("recall", recall)]
        for (label, recall), row in zip(recalls, counts.tolist(), strict=True)
    ]
    table = Table(f"Confusion of {task.name}, counts", ["true / predicted", *task.labels, "recall (%)"], cells)
    return {"task": task.name, "labels": task.labels, "rows": rows, "recalls": recalls, "table": table}


def _bar_table(column: str, shown: Mapping[str, Any]) -> Table:
    name = f"{METRICS[shown['metric']]} of {shown['task']}"
    rows = [[label, number(shown["metric"], value)] for label, value in shown["bars"]]
    return Table(f"{name} by {column.lower()}", [column, name], rows)


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
    """(speaker, main metric of the first task over the speaker's utterances), the best first.

    Empty if a speaker is unknown, or if every fold tests one speaker: the bars would be those of the folds.
    """
    predictions, task = files.predictions, files.tasks[0]
    names = sorted({speaker for speaker in predictions.speakers if speaker is not None})
    pairs = set(zip(predictions.folds, predictions.speakers, strict=True))
    if not names or None in predictions.speakers or len(pairs) == len(set(predictions.folds)):
        return []
    values = metrics_of(task)[MAIN[task.kind][0]].of(speaker_sums(predictions, task))  # (S,)
    bars = [(name, None if np.isnan(value) else float(value)) for name, value in zip(names, values, strict=True)]
    return sorted(bars, key=lambda bar: -1.0 if bar[1] is None else bar[1], reverse=True)


def _short(value: float) -> str:
    """94,371,712 -> `94.4 M`."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.1f}{letter}"
    return f"{value:.3g}"
