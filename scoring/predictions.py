"""A model's predictions and the true labels, the input of scores, intervals and reports."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from undertone.common.files import atomic_path
from undertone.downstream.task import Task, free_name

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ("id", "fold", "speaker", "gender")
_TASKS_KEY = b"undertone.tasks"


@dataclass(frozen=True, eq=False)
class Predictions:
    """Scores and targets of N utterances for every task.

    Attributes:
        tasks: what was predicted; their labels give the order of the classes.
        ids: N utterance ids.
        folds: N names of the fold in which the utterance was tested.
        speakers: N speakers, None = unknown.
        genders: N genders, None = unknown.
        scores: task name -> (N, C) float32 probabilities, or (N, 1) values for a regression; finite.
        targets: task name -> (N,) int64 class index, -1 = missing; for a regression float32, NaN = missing.

    Raises:
        ValueError: lengths differ, a task lacks scores or targets, a shape or class index does not fit the task, or a
            score is not finite.
    """

    tasks: tuple[Task, ...]
    ids: list[str]
    folds: list[str]
    speakers: list[str | None]
    genders: list[str | None]
    scores: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        for name in ("folds", "speakers", "genders"):
            if len(getattr(self, name)) != len(self):
                raise ValueError(f"Predictions: {len(self)} ids, but {len(getattr(self, name))} {name}; give one each.")
        names = {task.name for task in self.tasks}
        if not names == set(self.scores) == set(self.targets):
            raise ValueError(
                f"Predictions of the tasks {sorted(names)} need scores and targets of exactly these, "
                f"got scores of {sorted(self.scores)} and targets of {sorted(self.targets)}."
            )
        for task in self.tasks:
            self._check(task)

    def _check(self, task: Task) -> None:
        scores, target = self.scores[task.name], self.targets[task.name]
        if scores.shape != (len(self), task.num_outputs) or target.shape != (len(self),):
            raise ValueError(
                f"Task {task.name!r}: expected scores of shape ({len(self)}, {task.num_outputs}) and targets of "
                f"shape ({len(self)},), got {scores.shape} and {target.shape}."
            )
        finite = np.isfinite(scores).all(axis=1)  # (N,)
        if not finite.all():
            raise ValueError(
                f"Task {task.name!r}: {np.sum(~finite)} of {len(self)} utterances have scores that are not finite "
                f"(first: {self.ids[int(np.argmin(finite))]!r}). The model diverged; try a smaller learning rate."
            )
        if task.kind == "classification" and not np.all((target >= -1) & (target < len(task.labels))):
            raise ValueError(f"Task {task.name!r}: targets must be -1 (missing) or 0..{len(task.labels) - 1}.")

    def __len__(self) -> int:
        return len(self.ids)

    def known(self, task: Task) -> np.ndarray:
        """(N,) bool, True where the task's target is known."""
        target = self.targets[task.name]
        return target >= 0 if task.kind == "classification" else ~np.isnan(target)

    def predicted(self, task: Task) -> np.ndarray:
        """(N,) int64 index of the most probable class (the first of equals), or (N,) float32 values."""
        scores = self.scores[task.name]
        return scores.argmax(axis=1) if task.kind == "classification" else scores[:, 0]

    def select(self, rows: np.ndarray) -> Predictions:
        """The utterances of an (N,) bool mask, or of an array of indices, in its order."""
        order = np.arange(len(self))[rows]  # (M,)
        return Predictions(
            tasks=self.tasks,
            ids=[self.ids[i] for i in order],
            folds=[self.folds[i] for i in order],
            speakers=[self.speakers[i] for i in order],
            genders=[self.genders[i] for i in order],
            scores={name: scores[order] for name, scores in self.scores.items()},
            targets={name: target[order] for name, target in self.targets.items()},
        )

    def without(self, names: Collection[str]) -> Predictions:
        """The predictions of all other tasks."""
        kept = {task.name: task for task in self.tasks if task.name not in names}
        scores = {name: self.scores[name] for name in kept}
        return replace(
            self, tasks=tuple(kept.values()), scores=scores, targets={name: self.targets[name] for name in kept}
        )

    @classmethod
    def concat(cls, parts: Sequence[Predictions]) -> Predictions:
        """All utterances of `parts`, in order; no parts, or different tasks, are refused with a ValueError."""
        if not parts:
            raise ValueError("Predictions.concat got no predictions; give those of at least one fold.")
        tasks = parts[0].tasks
        if any(part.tasks != tasks for part in parts):
            raise ValueError("Predictions.concat needs the same tasks, with the same labels in the same order, in all.")
        return cls(
            tasks=tasks,
            ids=[id_ for part in parts for id_ in part.ids],
            folds=[fold for part in parts for fold in part.folds],
            speakers=[speaker for part in parts for speaker in part.speakers],
            genders=[gender for part in parts for gender in part.genders],
            scores={task.name: np.concatenate([part.scores[task.name] for part in parts]) for task in tasks},
            targets={task.name: np.concatenate([part.targets[task.name] for part in parts]) for task in tasks},
        )

    def save(self, path: str | Path) -> None:
        """Write a Parquet file atomically.

        Columns: `id, fold, speaker, gender`; for a classification `TASK` (true label or null), `TASK_predicted` and
        a probability `TASK_LABEL` for each label; for a regression `TASK` (value or null) and `TASK_predicted`.
        The true label of a task with the name of one of the first four (`gender`) is in `TASK_true`; any other name
        that is already taken (by a label "predicted") gets a trailing `_`. The schema's metadata has the tasks as JSON.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        meta: list[list[Any]] = [self.ids, self.folds, self.speakers, self.genders]
        columns = [(name, pa.array(values, pa.string())) for name, values in zip(_COLUMNS, meta, strict=True)]
        named = _column_names(self.tasks)
        for task in self.tasks:
            columns += zip(named[task.name], self._task_columns(task), strict=True)
        names = [name for name, _ in columns]
        tasks = json.dumps([task.to_dict() for task in self.tasks])
        table = pa.table([values for _, values in columns], names, metadata={_TASKS_KEY: tasks.encode()})
        with atomic_path(Path(path)) as draft:
            pq.write_table(table, draft)

    def _task_columns(self, task: Task) -> list[pa.Array]:
        """Truth, prediction and the probability of each label."""
        import pyarrow as pa

        scores, target, predicted = self.scores[task.name], self.targets[task.name], self.predicted(task)
        if task.kind == "regression":
            return [pa.array(target, from_pandas=True), pa.array(predicted)]
        return [
            pa.array([task.labels[i] if i >= 0 else None for i in target], pa.string()),
            pa.array([task.labels[i] for i in predicted], pa.string()),
            *(pa.array(scores[:, i]) for i in range(len(task.labels))),
        ]

    @classmethod
    def load(cls, path: str | Path) -> Predictions:
        """Read what `save` wrote; any other file is refused with a ValueError."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not a readable Parquet file ({error}). Run again.") from error
        stored = (table.schema.metadata or {}).get(_TASKS_KEY)
        if stored is None:
            raise ValueError(f"{path} holds no predictions of Undertone: its schema has no tasks.")
        tasks = tuple(Task(**{**task, "labels": tuple(task["labels"])}) for task in json.loads(stored))
        meta = {name: table[name].to_pylist() for name in _COLUMNS}
        named = _column_names(tasks)
        arrays = {task.name: _read_task(table, task, named[task.name]) for task in tasks}
        return cls(
            tasks,
            ids=meta["id"],
            folds=meta["fold"],
            speakers=meta["speaker"],
            genders=meta["gender"],
            scores={name: scores for name, (scores, _) in arrays.items()},
            targets={name: target for name, (_, target) in arrays.items()},
        )


def _column_names(tasks: Sequence[Task]) -> dict[str, list[str]]:
    """{task: columns of its truth, its prediction and each label's probability}, all different."""
    taken = list(_COLUMNS)
    named: dict[str, list[str]] = {}
    for task in tasks:
        truth = f"{task.name}_true" if task.name in _COLUMNS else task.name
        labels = () if task.kind == "regression" else task.labels
        named[task.name] = []
        for name in (truth, f"{task.name}_predicted", *(f"{task.name}_{label}" for label in labels)):
            named[task.name].append(free_name(name, *taken))
            taken.append(named[task.name][-1])
    return named


def _read_task(table: pa.Table, task: Task, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(N, C) scores and (N,) targets of one task."""
    truth, predicted, *labels = names
    if task.kind == "regression":
        return table[predicted].to_numpy()[:, None], table[truth].to_numpy()  # (N, 1), (N,)
    scores = np.stack([table[name].to_numpy() for name in labels], axis=1)  # (N, C)
    index: dict[str | None, int] = {None: -1} | {label: i for i, label in enumerate(task.labels)}
    target = np.array([index[label] for label in table[truth].to_pylist()], dtype=np.int64)
    return scores, target
