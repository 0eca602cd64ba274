"""A finished run repeated from its resolved config, and a comparison of the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from undertone.common.console import Display
from undertone.experiments.crossval import crossval, train
from undertone.experiments.run_folder import RunFolder
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import METRICS, number, only_fold, signed
from undertone.training.config import RunConfig

HEADER = ["Task", "Metric", "Before", "Again", "Difference"]


def rerun(run: Path, out: Path | None = None, display: Display | None = None) -> tuple[Path, dict[str, Any] | None]:
    """Repeat a finished run: the same config, corpus and folds, in another folder.

    Args:
        run: RUN; one that `train` made trains its fold again, any other all folds and the model of all speakers.
        out: the new run; None: RUN-rerun. An interrupted one is resumed.
        display: where progress is shown.

    Returns:
        the new run's folder and its results; None where another process is still busy with it.
    """
    finished = RunFolder.finished(run)
    out = out or run.with_name(f"{run.resolve().name}-rerun")
    if out.resolve() == run.resolve():
        raise ValueError(f"--out {out} is the run itself. Choose another folder: the old results are compared with.")
    if not finished.config:
        raise ValueError(f"{run} is an evaluation, not a run. Its commands are in {run / 'results.json'}.")
    try:
        config = RunConfig(**finished.config)
    except ValueError as error:
        raise ValueError(f"{run / 'config.json'} does not fit this version of undertone: {error}") from error
    fold = only_fold(finished.results)
    return out, crossval(config, out, display) if fold is None else train(config, out, fold, display)


def rerun_table(run: Path, again: Path) -> tuple[list[str], list[str], list[list[str]]]:
    """Title lines, header and rows: every pooled metric before and after, and `equal` or the difference."""
    before, after = RunFolder.finished(run), RunFolder.finished(again)
    rows = []
    for task, pooled in before.results["pooled"].items():
        for metric in (metric for metric in METRICS if metric in pooled):
            values = pooled[metric], after.results["pooled"][task][metric]
            rows.append([task, METRICS[metric], *(number(metric, value) for value in values), _change(metric, *values)])
    lines = [f"{run} and {again}: {_same_predictions(before.predictions, after.predictions)}"]
    if before.results["manifest_hash"] != after.results["manifest_hash"]:
        lines.append("THE CORPUS HAS CHANGED: the manifests differ, so the results are of other files or labels.")
    was, now = before.results["versions"], after.results["versions"]
    if changed := [f"{name} {was[name]} -> {now.get(name, 'none')}" for name in was if was[name] != now.get(name)]:
        lines.append(f"Versions: {', '.join(changed)}.")
    return lines, list(HEADER), rows


def _change(metric: str, before: float | None, after: float | None) -> str:
    if before == after:
        return "equal"
    if before is None or after is None:
        return "–"
    text = signed(metric, after - before)
    return text if float(text) else f"{after - before:+.1e}"


def _same_predictions(before: Predictions, after: Predictions) -> str:
    """Whether all predictions are equal, bit for bit, or the largest difference."""
    if before.ids != after.ids or before.tasks != after.tasks:
        return "different utterances or tasks were predicted"
    gaps = [np.abs(before.scores[task.name] - after.scores[task.name]).max(initial=0) for task in before.tasks]
    if not max(gaps):
        return f"all {len(before)} predictions are equal, bit for bit"
    return f"{len(before)} predictions differ by up to {max(gaps):.1e}"
