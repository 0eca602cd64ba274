"""Train x test matrix of several corpora, and leave-one-corpus-out: three runs of the joined corpora.

    OUT/within    each corpus by its own default protocol: the diagonal
    OUT/across    trained on one corpus, tested on all others
    OUT/left-out  trained on all other corpora (from three corpora on)

Each is a run like that of `crossval`, without a model of all speakers: it is resumed, reported and compared like one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from undertone.common.console import Display
from undertone.common.files import write_json
from undertone.corpora.manifest import Manifest
from undertone.downstream.task import Task
from undertone.experiments.crossval import pool, train_folds, write_results
from undertone.experiments.open_run import open_run
from undertone.experiments.run_folder import RunFolder
from undertone.scoring.by_corpus import scores_and_intervals
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import MAIN, METRICS, chance, ends_text, number, to_json
from undertone.training.accelerator import accelerator_of
from undertone.training.config import RunConfig

OTHERS = "all others"
RUNS = {"within": "within", "across": "across", "corpus": "left-out"}
"""{protocol: folder}."""

OF_RUN = (
    *("upstream", "upstream_weights", "head", "protocol", "speaker_independent"),
    *("manifest_hash", "split_fingerprint", "warnings"),
)
"""What crosscorpus.json says of each run, and the number of its folds."""


def crosscorpus(config: RunConfig, out: Path, display: Display | None = None) -> dict[str, Any] | None:
    """Train on each corpus and on all but one, and test on each; finished folds are kept.

    Args:
        config: of joined corpora, `A+B+C`; its protocol is set here.
        out: folder of the runs; crosscorpus.json is written there.
        display: where progress is shown.

    Returns:
        `runs` {protocol: path}, `results` {protocol: `OF_RUN` of that run, `num_folds`}, `task`, `metric`, `corpora`,
        and `cells` {train: {test: {value, ci95, num, num_speakers, chance}}}, in which train may be `all others`; None
        when another process is still busy with a fold.

    Raises:
        ValueError: fewer than two corpora, or a protocol or number of folds is given.
    """
    display = display or Display()
    if config.protocol is not None or config.num_folds is not None:
        raise ValueError("crosscorpus has protocols of its own: leave protocol and num_folds out.")
    if config.corpus.count("+") < 1:
        raise ValueError(f"crosscorpus needs two corpora or more, got {config.corpus}: undertone crosscorpus A B C.")
    protocols = [name for name in RUNS if name != "corpus" or config.corpus.count("+") > 1]
    for protocol in protocols:
        run = open_run(config.model_copy(update={"protocol": protocol}), out / RUNS[protocol], display)
        accelerator = accelerator_of(run.config)
        if busy := train_folds(run, run.folds, accelerator):
            display.say(
                f"Another process is busy with {', '.join(busy)} of {RUNS[protocol]}; start this again after it."
            )
            return None
        if accelerator.is_main_process and not (run.folder.path / "results.json").is_file():
            write_results(run, run.folds, pool(run, run.folds, {}))
        accelerator.wait_for_everyone()
    found = matrix({protocol: out / RUNS[protocol] for protocol in protocols})
    if accelerator.is_main_process:
        write_json(out / "crosscorpus.json", found)
    return found


def matrix(runs: Mapping[str, Path]) -> dict[str, Any]:
    """The content of crosscorpus.json from the finished runs {protocol: folder}."""
    finished = {protocol: RunFolder.finished(path) for protocol, path in runs.items()}
    manifest = Manifest.load(runs["within"] / "manifest")
    corpora = dict(zip(manifest.ids, manifest.column("corpus"), strict=True))
    names = list(dict.fromkeys(corpora.values()))
    task = finished["within"].tasks[0]
    metric = MAIN[task.kind][0]
    cells: dict[str, dict[str, Any]] = {name: {} for name in [*names, *([OTHERS] if "corpus" in runs else [])]}
    for protocol, files in finished.items():
        tested = [corpora[name] for name in files.predictions.ids]
        others = [OTHERS] * len(tested)
        trained = {"within": tested, "across": files.predictions.folds, "corpus": others}[protocol]
        pairs = np.array([trained, tested])  # (2, N)
        for train, test in dict.fromkeys(zip(trained, tested, strict=True)):
            rows = (pairs == [[train], [test]]).all(axis=0)  # (N,)
            cells[train][test] = _cell(files.predictions.select(rows), task, metric)
    return dict(
        to_json(
            {
                "runs": {protocol: str(path) for protocol, path in runs.items()},
                "results": {protocol: _of_run(files.results) for protocol, files in finished.items()},
                "task": task.name,
                "metric": metric,
                "labels": task.labels,
                "corpora": names,
                "cells": cells,
            }
        )
    )


def _of_run(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the matrix says of a run."""
    return {key: results[key] for key in OF_RUN} | {"num_folds": len(results["folds"])}


def _cell(predictions: Predictions, task: Task, metric: str) -> dict[str, Any]:
    """One training corpus on one test corpus."""
    found = scores_and_intervals(predictions)
    return {
        "value": found["scores"][task.name][metric],
        "ci95": found["ci95"][task.name][metric],
        "num": found["scores"][task.name]["num"],
        "num_speakers": found["num_speakers"],
        "chance": chance(predictions, task)[metric],
    }


def cell_texts(cell: Mapping[str, Any] | None, metric: str) -> tuple[str, str]:
    """`71.2` and `65.0 – 77.1`; dashes where there is none."""
    if cell is None:
        return "–", ""
    return number(metric, cell["value"]), ends_text(metric, cell["ci95"])


def crosscorpus_table(found: Mapping[str, Any]) -> tuple[list[str], list[str], list[list[str]]]:
    """Title lines, header and a row for each training corpus, with a cell for each test corpus."""
    metric, within = found["metric"], found["results"]["within"]
    labels = f" ({', '.join(found['labels'])})" if found["labels"] else ""
    chance = sorted({number(metric, cell["chance"]) for row in found["cells"].values() for cell in row.values()})
    titles = [
        f"{METRICS[metric]} of {found['task']}{labels}, train x test: upstream {within['upstream']}, head "
        f"{within['head']}. Chance {' or '.join(chance)}.",
        "The diagonal is cross-validation within a corpus by its default protocol; elsewhere a fifth of the training "
        "speakers are dev, and the whole corpus is test.",
    ]
    if not all(results["speaker_independent"] for results in found["results"].values()):
        titles.append("SPEAKER-DEPENDENT IN PART: see the report of each run.")
    if within.get("upstream_weights") == "random":
        titles.append(f"RANDOM-WEIGHT UPSTREAM: {within['upstream']} was never trained; this is a control.")
    prints = ", ".join(f"{RUNS[name]} {one['split_fingerprint']}" for name, one in found["results"].items())
    titles.append(f"Split fingerprints: {prints}.")
    titles.append("95 % intervals, for new speakers: jackknife over the test speakers, Student's t. Fractions in %.")
    rows = []
    for train, cells in found["cells"].items():
        shown = [cell_texts(cells.get(test), metric) for test in found["corpora"]]
        rows.append([train, *(f"{value} ({ends})" if ends else value for value, ends in shown)])
    return titles, ["Train", *(f"Test {name}" for name in found["corpora"])], rows
