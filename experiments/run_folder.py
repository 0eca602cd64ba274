"""The files of a run in its folder RUN: where they lie, which folds are done, and what a report reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from undertone.common.files import read_json, read_record, remove_drafts, remove_folder, safe_name
from undertone.corpora.manifest import FILE_NAME as MANIFEST
from undertone.corpora.manifest import Manifest
from undertone.downstream.task import Task
from undertone.experiments.embeddings import FILE_NAME as EMBEDDINGS
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import is_evaluation
from undertone.training.settings import command_line

TRAINING = ("checkpoints", "best", "both", "layers", "without-pseudo-labels", "alone")
"""Folders that a training needs until its fold.json is written."""


@dataclass(frozen=True)
class RunFolder:
    """RUN, the folder of a run or of an evaluation; a file is read when it is first asked for.

    Attributes:
        path: RUN.
    """

    path: Path

    @classmethod
    def finished(cls, path: Path) -> RunFolder:
        """The folder of a finished run, or of what `undertone evaluate` wrote.

        A ValueError says that there is no run, or which file is missing, with the command that resumes it.
        """
        if not path.is_dir():
            raise ValueError(f"There is no run at {path}. Give the folder that `undertone crossval ... --out` wrote.")
        run = cls(path)
        run._need(path / "results.json", path / "predictions.parquet")
        if not is_evaluation(run.results):
            run._need(path / "config.json", *(run.fold(name) / "history.json" for name in run.fold_names))
        return run

    @cached_property
    def results(self) -> dict[str, Any]:
        """results.json."""
        return read_record(self.path / "results.json", folds=list, pooled=dict)

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json; empty of an evaluation, which trained nothing."""
        if is_evaluation(self.results):
            return {}
        found = read_record(self.path / "config.json", corpus=str)
        return {key: value for key, value in found.items() if key != "model_type"}

    @cached_property
    def predictions(self) -> Predictions:
        """Of all folds."""
        return Predictions.load(self.path / "predictions.parquet")

    @cached_property
    def histories(self) -> list[list[dict[str, Any]]]:
        """history.json of each fold, in the order of the results; none of an evaluation."""
        return [read_json(self.fold(name) / "history.json") for name in self.fold_names if self.config]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What was predicted."""
        return self.predictions.tasks

    @property
    def fold_names(self) -> list[str]:
        """The folds in the results."""
        return [fold["name"] for fold in self.results["folds"]]

    def fold(self, name: str) -> Path:
        """RUN/folds/NAME, by `safe_name`; fold.json in it holds the name itself."""
        return self.path / "folds" / safe_name(name)

    def fold_record(self, name: str, **wanted: Any) -> dict[str, Any]:
        """fold.json of a fold; `wanted` as in `read_record`."""
        return read_record(self.fold(name) / "fold.json", **wanted)

    def fold_predictions(self, name: str) -> Predictions:
        """Of a fold's test part."""
        return Predictions.load(self.fold(name) / "predictions.parquet")

    def is_done(self, name: str) -> bool:
        """Whether the fold's files are all there; those of another fold are refused (`F1` and `f1` may be one name)."""
        record = self.fold(name) / "fold.json"
        if not record.is_file():
            return False
        found = read_record(record).get("name", name)  # an earlier version wrote none
        if found != name:
            raise ValueError(
                f"{record.parent} holds the fold {found!r}, and {name!r} would overwrite it: to this file system both "
                f"names are one. Rename one of them in the corpus, and start again with another --out."
            )
        return True

    def lock(self, name: str) -> FileLock | None:
        """The lock of a fold that this process is to train, acquired; None: it is done, or another process holds it.

        A dead process holds no lock.
        """
        if self.is_done(name):
            return None
        folder = self.fold(name)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f"{folder.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        if self.is_done(name):  # finished by another process in the meantime
            lock.release()
            return None
        return lock

    def remove_leftovers(self) -> None:
        """Remove the files that killed processes left; other processes may be working in RUN."""
        remove_drafts(self.path)
        for record in self.path.glob("folds/**/fold.json"):  # written last: its training is done
            for name in TRAINING:
                remove_folder(record.parent / name)

    @cached_property
    def manifest(self) -> Manifest | None:
        """The run's utterances; None of an evaluation."""
        folder = self.path / "manifest"
        return Manifest.load(folder) if (folder / MANIFEST).is_file() else None

    @cached_property
    def robustness(self) -> dict[str, Any]:
        """robustness.json, which `undertone robustness` wrote; empty where it was not run."""
        path = self.path / "robustness.json"
        return read_record(path, conditions=list) if path.is_file() else {}

    def votes(self) -> dict[str, dict[str, float] | None]:
        """The raters' votes of every utterance of the manifest; empty where the run holds none."""
        return {item.id: item.votes for item in self.manifest or ()}

    def embedded_fold(self) -> str | None:
        """The fold with the most test utterances, the first of equals; None where no embeddings were kept."""
        kept = [name for name in self.fold_names if (self.fold(name) / EMBEDDINGS).is_file()]
        return max(kept, key=self.predictions.folds.count, default=None)

    def _need(self, *paths: Path) -> None:
        """Refuse an unfinished run with what is missing, what is done, and the command that does the rest."""
        missing = [str(path.relative_to(self.path)) for path in paths if not path.is_file()]
        if not missing:
            return
        config, command = self.path / "config.json", f"undertone crossval CORPUS --out {self.path}"
        if config.is_file():
            command = command_line(read_record(config, corpus=str), self.path)
        done = len(list(self.path.glob("folds/*/fold.json")))
        raise ValueError(
            f"The run {self.path} is not finished: {', '.join(missing)} missing, {done} folds done. "
            f"Resume it with: {command}"
        )
