"""What a report reads of a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertone.common.files import read_json, read_record, remove_drafts, remove_folder, safe_name
from undertone.downstream.task import Task
from undertone.experiments.embeddings import FILE_NAME
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import is_evaluation
from undertone.training.settings import command_line

TRAINING = ("checkpoints", "best", "both", "layers")
"""Folders that a training needs until its fold.json is written."""


@dataclass(frozen=True)
class RunFiles:
    """The files of a finished run, or of an evaluation.

    Attributes:
        path: RUN.
        results: results.json.
        config: config.json; empty of an evaluation, which trained nothing.
        predictions: of all folds.
        histories: of each fold, in the order of results["folds"]; none of an evaluation.
    """

    path: Path
    results: dict[str, Any]
    config: dict[str, Any]
    predictions: Predictions
    histories: list[list[dict[str, Any]]]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What was predicted."""
        return self.predictions.tasks

    def fold_folder(self, name: str) -> Path:
        """RUN/folds/NAME."""
        return fold_folder(self.path, name)

    def votes(self) -> dict[str, dict[str, float] | None]:
        """The raters' votes of every utterance of the manifest; empty where the run holds none."""
        from undertone.corpora.manifest import FILE_NAME as MANIFEST
        from undertone.corpora.manifest import Manifest

        if not (self.path / "manifest" / MANIFEST).is_file():
            return {}
        return {item.id: item.votes for item in Manifest.load(self.path / "manifest")}

    def embedded_fold(self) -> str | None:
        """The fold with the most test utterances, the first of equals; None where no embeddings were kept."""
        names = [fold["name"] for fold in self.results["folds"]]
        kept = [name for name in names if (self.fold_folder(name) / FILE_NAME).is_file()]
        return max(kept, key=self.predictions.folds.count, default=None)


def fold_folder(run: Path, name: str) -> Path:
    """RUN/folds/NAME, by `safe_name`; fold.json in it holds the name itself."""
    return run / "folds" / safe_name(name)


def remove_leftovers(run: Path) -> None:
    """Remove what killed processes left in RUN and nobody will read; other processes may be at work in it."""
    remove_drafts(run)
    for record in run.glob("folds/**/fold.json"):  # written last: its training is done
        for name in TRAINING:
            remove_folder(record.parent / name)


def read_run(run: Path) -> RunFiles:
    """Read a finished run, or what `undertone evaluate` wrote.

    Raises:
        ValueError: there is no run, or one of its files is missing (with the command that resumes it) or unreadable.
    """
    if not run.is_dir():
        raise ValueError(f"There is no run at {run}. Give the folder that `undertone crossval ... --out` wrote.")
    _need(run, [run / "results.json", run / "predictions.parquet"])
    results = read_record(run / "results.json", folds=list, pooled=dict)
    if is_evaluation(results):
        return RunFiles(run, results, {}, Predictions.load(run / "predictions.parquet"), [])
    _need(run, [run / "config.json"])
    histories = [fold_folder(run, fold["name"]) / "history.json" for fold in results["folds"]]
    _need(run, histories)
    predictions = Predictions.load(run / "predictions.parquet")
    return RunFiles(
        run, results, read_record(run / "config.json", corpus=str), predictions, [read_json(path) for path in histories]
    )


def _need(run: Path, paths: list[Path]) -> None:
    """Refuse an unfinished run with what is missing, what is done, and the command that does the rest."""
    missing = [str(path.relative_to(run)) for path in paths if not path.is_file()]
    if not missing:
        return
    config = run / "config.json"
    command = (
        command_line(read_record(config, corpus=str), run)
        if config.is_file()
        else f"undertone crossval CORPUS --out {run}"
    )
    done = len(list(run.glob("folds/*/fold.json")))
    raise ValueError(
        f"The run {run} is not finished: {', '.join(missing)} missing, {done} folds done. "
        f"This resumes it, then ask for the report again: {command}"
    )
