"""Tasks and their targets: one label or value per utterance, or values over time."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from undertone.common.discovery import nearest
from undertone.corpora.manifest import DIMENSIONS, LABELS
from undertone.downstream.head import HeadOutput
from undertone.downstream.task import Task

if TYPE_CHECKING:
    from undertone.corpora.folds import Fold
    from undertone.corpora.manifest import Manifest, Utterance


# ---- From a manifest's columns to tasks and target arrays.

SERIES = "series."  # before the name of a value that is annotated over time

_FEW = 10  # different whole numbers in a column that may be classes
_WHOLE = re.compile(r"-?\d+(\.0+)?")


def choose_tasks(
    manifest: Manifest,
    names: Sequence[str],
    weights: Mapping[str, float],
    soft_labels: bool = False,
    adversarial: Sequence[str] = (),
) -> tuple[Task, ...]:
    """The tasks to train: the named columns, or by default emotion (else the dimensions) and gender where labelled.

    Args:
        manifest: all utterances.
        names: columns; `series.NAME` is the column NAME of the utterances' series, predicted frame by frame.
        weights: {column: factor of its loss}.
        soft_labels: learn the distribution of the raters' votes as the emotion.
        adversarial: columns that an adversary predicts; none of them can also be a task.

    Raises:
        ValueError: a column that is absent or empty, one class only, a weight for a task that is not trained, soft
            labels without votes, a column that is a task and adversarial, or values over time beside others.
    """
    names = list(names) or _default_names(manifest)
    if len({name.startswith(SERIES) for name in names}) > 1:
        raise ValueError(
            f"Values over time ({SERIES}NAME) and of whole utterances cannot be learned at once: {', '.join(names)}."
        )
    if both := [name for name in adversarial if name in names]:
        raise ValueError(
            f"{both[0]!r} is a task and adversarial at once, which are opposites. Name the tasks without it "
            f"(tasks={','.join(name for name in names if name not in both) or 'emotion'}), or leave adversarial out."
        )
    if soft_labels and "emotion" not in names:
        raise ValueError(f"soft_labels=true is for the task 'emotion', which is not trained: {', '.join(names)}.")
    stray = [name for name in weights if name not in names]
    if stray:
        raise ValueError(f"task_weights names {stray[0]!r}, which is not trained.{nearest(stray[0], names)}")
    return tuple(
        _make_soft_task(manifest, weights.get(name, 1.0))
        if soft_labels and name == "emotion"
        else _make_task(manifest, name, weights.get(name, 1.0))
        for name in names
    )


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
    if name.startswith(SERIES):
        return _make_frame_task(manifest, name, weight)
    try:
        values = _present(manifest.labels(name))
    except (KeyError, ValueError) as error:
        raise ValueError(f"Task {name!r}: {error}") from error
    if not values:
        labelled = [column for column in ("emotion", *DIMENSIONS, "gender") if _present(manifest.column(column))]
        others = f"choose tasks that are labelled (tasks={','.join(labelled)})" if labelled else "leave the task out"
        raise ValueError(f"Task {name!r}: the column is empty in every row. Fill in the labels, or {others}.")
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        limits = (0.0, 1.0) if name in DIMENSIONS else None  # as every corpus gives them
        return Task(name, "regression", (name,), weight=weight, limits=limits)
    labels = tuple(sorted({str(value) for value in values}))
    if len(labels) < 2:
        raise ValueError(
            f"Task {name!r} has one class only, {labels[0]!r}, in all {len(values)} labelled utterances. "
            f"Add utterances of another class, or choose other tasks with tasks=..."
        )
    return Task(name, "classification", labels, weight=weight)


def _make_frame_task(manifest: Manifest, name: str, weight: float) -> Task:
    if not _present(manifest.column("series")):
        raise ValueError(f"Task {name!r}: no utterance has a series. Fill in the column series, or predict others.")
    value = name.removeprefix(SERIES)
    return Task(value, "regression", (value,), level="frame", weight=weight)


def _make_soft_task(manifest: Manifest, weight: float) -> Task:
    """Emotion as a distribution of votes; its classes are the emotion labels, or where there are none all voted ones.

    Votes for other classes are ignored.
    """
    votes = [row for row in manifest.column("votes") if row]
    if not votes:
        raise ValueError("soft_labels=true needs raters' votes, and this corpus has none. Leave soft_labels out.")
    labels = {str(value) for value in _present(manifest.column("emotion"))} or {label for row in votes for label in row}
    return Task("emotion", "distribution", tuple(sorted(labels)), weight=weight)


def reading_notes(tasks: Sequence[Task], manifest: Manifest) -> list[str]:
    """Sentences on how columns of whole numbers are read: they may be values or names of classes."""
    notes = []
    for task in tasks:
        if task.name in LABELS or task.level == "frame" or task.kind == "distribution":
            continue
        found = sorted(
            {str(value) for value in _present(manifest.labels(task.name))}, key=lambda text: (len(text), text)
        )
        if len(found) > _FEW or not all(_WHOLE.fullmatch(text) for text in found):
            continue
        read, other, advice = "classes", "values", "write numbers"
        if task.kind == "regression":
            read, other, advice = "values", "classes", "write words, such as level1"
        notes.append(f"{task.name} ({', '.join(found)}) is read as {read}. If these are {other}, {advice}.")
    return notes


def label_warnings(
    tasks: Sequence[Task], folds: Sequence[Fold], manifest: Manifest, *, inner: bool = False
) -> list[str]:
    """Sentences on labels that the folds leave unusable: classes that are tested but not trained, a useless dev.

    `inner`: inner folds over train and dev choose, so that dev is trained on and chooses nothing by itself.
    """
    sentences = []
    for task in tasks:
        if task.level == "frame":
            continue
        labels = {item.id: _label(task, item) for item in manifest}
        untrained: dict[str, list[str]] = {}
        one_class, no_label = [], []
        for fold in folds:
            train, dev, test = (
                {label for name in part if (label := labels[name]) is not None} for part in fold.parts.values()
            )
            if task.has_classes:
                for label in sorted(test - train - (dev if inner else set())):
                    untrained.setdefault(label, []).append(fold.name)
                if len(dev) == 1 and not inner:
                    one_class.append(fold.name)
            if not dev and not inner:
                no_label.append(fold.name)
        for label, names in untrained.items():
            sentences.append(
                f"{task.name} {label!r} is tested but never trained in {_folds(names)}: always wrong there."
            )
        for names, what in ((one_class, "one class only"), (no_label, "no label")):
            if names:
                sentences.append(
                    f"dev has {what} of {task.name} in {_folds(names)}: it cannot tell good models from bad."
                )
    return sentences


def _label(task: Task, utterance: Utterance) -> str | None:
    """The label as text; of votes the class with most."""
    if task.kind == "regression":
        value = utterance.label(task.name)
        return None if value is None else str(value)
    place = int(scored_targets(task, [utterance])[0])
    return task.labels[place] if place >= 0 else None


def _folds(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"fold{'s' * (len(names) > 1)} {', '.join(names[:5])}{more}"


def adversarial_tasks(names: Sequence[str], train: Sequence[Utterance]) -> tuple[Task, ...]:
    """The adversary's tasks; their classes are those of the training utterances alone."""
    tasks = []
    for name in names:
        labels = {str(value) for value in _present([utterance.label(name) for utterance in train])}
        if len(labels) < 2:
            raise ValueError(
                f"adversarial={name}: the training utterances have {len(labels)} classes of {name!r}, and two are "
                f"needed. Name another column, such as speaker, corpus or gender."
            )
        tasks.append(Task(name, "classification", tuple(sorted(labels)), adversarial=True))
    return tuple(tasks)


def targets(task: Task, utterances: Sequence[Utterance]) -> np.ndarray:
    """(N,) int64 class indices, -1 = missing; (N,) float32 values, NaN = missing; (N, C) float32 fractions of votes."""
    if task.kind == "distribution":
        votes = [[(item.votes or {}).get(label, 0.0) for label in task.labels] for item in utterances]
        counts = np.array(votes, dtype=np.float64).reshape(-1, len(task.labels))  # (N, C)
        totals = counts.sum(axis=1, keepdims=True)  # (N, 1)
        fractions: np.ndarray = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals != 0)
        return fractions.astype(np.float32)
    values = [utterance.label(task.name) for utterance in utterances]
    if task.kind == "regression":
        return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float32)
    index = {label: position for position, label in enumerate(task.labels)}
    return np.array([-1 if value is None else index.get(str(value), -1) for value in values], dtype=np.int64)


def scored_task(task: Task) -> Task:
    """The task as which predictions are scored: soft labels as the class with most votes."""
    return replace(task, kind="classification") if task.kind == "distribution" else task


def scored_targets(task: Task, utterances: Sequence[Utterance]) -> np.ndarray:
    """(N,) targets of `scored_task(task)`; where several classes have most votes, the label is missing."""
    truth = targets(task, utterances)
    if task.kind != "distribution":
        return truth
    most = truth == truth.max(axis=1, keepdims=True)  # (N, C), all False where the votes are missing
    return np.where(most.sum(axis=1) == 1, most.argmax(axis=1), -1)


# ---- Annotations over time: read from an utterance's `series` file, and predictions at the same times.
#
# Losses and scores use the times of the annotation, not frames: these do not depend on the upstream's frame rate, and
# their number is known before the forward pass.

TIME = "time"


@lru_cache(maxsize=4096)
def read_series(path: str) -> dict[str, np.ndarray]:
    """{column: (P,) float64} of a CSV with `time` in seconds, increasing, and one or more values; an empty cell is NaN.

    Raises:
        ValueError: the file cannot be read, has no `time` or a value column, or a cell is not a number.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Cannot read the series {path}: {error}.") from error
    names = list(rows[0]) if rows else []
    if TIME not in names or len(names) < 2:
        raise ValueError(f"The series {path} needs a column {TIME!r} and one of values, got: {', '.join(names)}.")
    try:
        series = {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}
    except (TypeError, ValueError) as error:
        raise ValueError(f"The series {path} has a cell that is not a number: {error}.") from error
    if not np.all(np.diff(series[TIME]) > 0):
        raise ValueError(f"The series {path}: the times must rise from row to row.")
    return series


def annotation(task: Task, utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
    """(P,) seconds after the utterance's start, and (P,) float32 values, NaN = missing; empty without a series."""
    if utterance.series is None:
        return np.empty(0), np.empty(0, dtype=np.float32)
    series = read_series(utterance.series)
    if task.name not in series:
        raise ValueError(f"The series {utterance.series} has no column {task.name!r}, only: {', '.join(series)}.")
    times = series[TIME] - (utterance.start or 0.0)
    inside = (times >= 0) & (times <= utterance.duration)
    return times[inside], series[task.name][inside].astype(np.float32)


def at_times(frames: Tensor, times: Tensor, duration: float) -> Tensor:
    """Predictions at any times, interpolated linearly between the middles of frames and constant beyond them.

    Args:
        frames: (T, C), T frames that divide the utterance evenly.
        times: (P,) seconds after its start.
        duration: of the utterance, seconds.

    Returns:
        (P, C).
    """
    last = len(frames) - 1
    position = (times / duration * len(frames) - 0.5).clamp(0, last)  # (P,) in frames
    before = position.floor().long()
    weight = (position - before).to(frames.dtype).unsqueeze(-1)  # (P, 1)
    return torch.lerp(frames[before], frames[(before + 1).clamp(max=last)], weight)


def at_annotations(task: Task, output: HeadOutput, utterances: Sequence[Utterance]) -> list[Tensor]:
    """(P, C) predictions of each utterance at the P times of its annotation."""
    if output.lengths is None:
        raise ValueError(f"The head gives no lengths, which the task {task.name!r}, frame by frame, needs. Set them.")
    logits = output.logits[task.name].float()
    return [
        at_times(row[:length], torch.from_numpy(annotation(task, utterance)[0]).to(row.device), utterance.duration)
        for row, length, utterance in zip(logits, output.lengths.tolist(), utterances, strict=True)
    ]
