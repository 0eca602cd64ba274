"""A finished run made again from its resolved config, and the two beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from undertone.common.console import Display
from undertone.common.files import read_record
from undertone.experiments.crossval import crossval, train
from undertone.scoring.compare import read_finished, signed
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import METRICS, number, only_fold
from undertone.training.config import RunConfig

HEADER = ["Task", "Metric", "Before", "Again", "Difference"]


def rerun(run: Path, out: Path | None = None, display: Display | None = None) -> tuple[Path, dict[str, Any] | None]:
    """Make a finished run again: the same config, corpus and folds, in a folder of its own.

    Args:
        run: RUN; what `train` made trains its fold again, any other one all folds and the model of all speakers.
        out: the new run; None: RUN-rerun. A broken-off one is taken up.
        display: where progress is shown.

    Returns:
        the new run's folder and its results; None where another process is still busy with it.

    Raises:
        ValueError: the run is not finished, its config is of another version, or `out` is the run itself.
    """
    finished = read_finished(run)
    out = out or run.with_name(f"{run.resolve().name}-rerun")
    if out.resolve() == run.resolve():
        raise ValueError(f"--out {out} is the run itself. Choose another folder: the old results are compared with.")
    config = read_config(run)
    fold = only_fold(finished.results)
    return out, crossval(config, out, display) if fold is None else train(config, out, fold, display)


def read_config(run: Path) -> RunConfig:
    """The resolved config of a run.

    Raises:
        ValueError: there is none, or this version does not know one of its settings.
    """
    path = run / "config.json"
    if not path.is_file():
        raise ValueError(f"{run} cannot be made again: there is no {path}.")
    try:
        return RunConfig(**read_record(path, corpus=str))
    except ValueError as error:
        raise ValueError(f"{path} does not fit this version of undertone: {error}") from error


def rerun_table(run: Path, again: Path) -> tuple[list[str], list[str], list[list[str]]]:
    """Title lines, header and rows: every pooled metric before and after, `equal` or by how much it differs."""
    before, after = read_finished(run), read_finished(again)
    rows = []
    for task, pooled in before.results["pooled"].items():
        for metric in (metric for metric in METRICS if metric in pooled):
            values = pooled[metric], after.results["pooled"][task][metric]
            rows.append([task, METRICS[metric], *(number(metric, value) for value in values), _change(metric, *values)])
    lines = [f"{run} and {again}: {_same_predictions(before.predictions, after.predictions)}"]
    if before.results["manifest_hash"] != after.results["manifest_hash"]:
        lines.append("THE CORPUS HAS CHANGED: the manifests differ, so the results are of other files or labels.")
    if changed := _changed_versions(before.results["versions"], after.results["versions"]):
        lines.append(f"Versions: {changed}.")
    return lines, list(HEADER), rows


def _change(metric: str, before: float | None, after: float | None) -> str:
    if before == after:
        return "equal"
    if before is None or after is None:
        return "–"
    text = signed(metric, after - before)
    return text if float(text) else f"{after - before:+.1e}"


def _same_predictions(before: Predictions, after: Predictions) -> str:
    """Whether every prediction is the same, bit for bit, or by how much the most different one differs."""
    if before.ids != after.ids or before.tasks != after.tasks:
        return "other utterances or tasks were predicted"
    gaps = [np.abs(before.scores[task.name] - after.scores[task.name]).max(initial=0) for task in before.tasks]
    if not max(gaps):
        return f"all {len(before)} predictions are equal, bit for bit"
    return f"of {len(before)} predictions the most different one differs by {max(gaps):.1e}"


def _changed_versions(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """`torch 2.13 -> 2.14`, for every package whose version is another one."""
    names = [name for name in before if before[name] != after.get(name)]
    return ", ".join(f"{name} {before[name]} -> {after.get(name, 'none')}" for name in names)
