"""From a manifest's columns to tasks and target arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from undertone.discovery import nearest
from undertone.downstream.task import Task

if TYPE_CHECKING:
    from undertone.corpora.manifest import Manifest, Utterance

DIMENSIONS = ("arousal", "valence", "dominance")


def choose_tasks(manifest: Manifest, names: Sequence[str], weights: Mapping[str, float]) -> tuple[Task, ...]:
    """The tasks to train: the named columns, or by default emotion (else the dimensions) and gender where labelled.

    Raises:
        ValueError: a column that is absent or empty, one class only, or a weight for a task that is not trained.
    """
    names = list(names) or _default_names(manifest)
    stray = [name for name in weights if name not in names]
    if stray:
        raise ValueError(f"task_weights names {stray[0]!r}, which is not trained.{nearest(stray[0], names)}")
    return tuple(_make_task(manifest, name, weights.get(name, 1.0)) for name in names)


def _default_names(manifest: Manifest) -> list[str]:
    labelled = [name for name in ("emotion", *DIMENSIONS) if _present(manifest.column(name))]
    if not labelled:
        raise ValueError(
            "The manifest has neither emotions nor dimensions (arousal, ...). Name what to predict: tasks=COLUMN."
        )
    main = ["emotion"] if "emotion" in labelled else labelled
    return main + (["gender"] if len(set(_present(manifest.column("gender")))) > 1 else [])


def _present(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if value is not None and value != "" and value == value]


def _make_task(manifest: Manifest, name: str, weight: float) -> Task:
    try:
        values = _present(manifest.column(name))
    except (KeyError, ValueError) as error:
        raise ValueError(f"Task {name!r}: the manifest has no such column. {error}") from error
    if not values:
        raise ValueError(f"Task {name!r}: the column is empty in every row. Leave the task out, or fill in the labels.")
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return Task(name, "regression", (name,), weight=weight)
    labels = tuple(sorted({str(value) for value in values}))
    if len(labels) < 2:
        raise ValueError(
            f"Task {name!r} has one class only, {labels[0]!r}, in all {len(values)} labelled utterances. "
            f"Add utterances of another class, or choose other tasks with tasks=..."
        )
    return Task(name, "classification", labels, weight=weight)


def targets(task: Task, utterances: Sequence[Utterance]) -> np.ndarray:
    """(N,) int64 class indices, -1 = missing; or (N,) float32 values, NaN = missing."""
    values = [_value(utterance, task.name) for utterance in utterances]
    if task.kind == "regression":
        return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float32)
    index = {label: position for position, label in enumerate(task.labels)}
    return np.array([-1 if value is None else index.get(str(value), -1) for value in values], dtype=np.int64)


def _value(utterance: Utterance, name: str) -> Any:
    return getattr(utterance, name) if hasattr(utterance, name) else utterance.extra.get(name)
