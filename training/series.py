"""Annotations over time: read from an utterance's `series` file, and predictions at the same times.

Losses and scores look at the times of the annotation, not at frames: these are the same whatever the upstream's frame
rate, and how many there are is known before the forward pass.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from undertone.downstream.head import HeadOutput
from undertone.downstream.task import Task

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance

TIME = "time"


@lru_cache(maxsize=4096)
def read_series(path: str) -> dict[str, np.ndarray]:
    """{column: (P,) float64} of a CSV with `time` in seconds, rising, and one value or more; an empty cell is NaN.

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
    """(P,) times in seconds after the utterance's start, and (P,) float32 values, NaN = missing; empty without series.

    Raises:
        ValueError: the series has no column of the task's name.
    """
    if utterance.series is None:
        return np.empty(0), np.empty(0, dtype=np.float32)
    series = read_series(utterance.series)
    if task.name not in series:
        raise ValueError(f"The series {utterance.series} has no column {task.name!r}, only: {', '.join(series)}.")
    times = series[TIME] - (utterance.start or 0.0)
    inside = (times >= 0) & (times <= utterance.duration)
    return times[inside], series[task.name][inside].astype(np.float32)


def at_times(frames: Tensor, times: Tensor, duration: float) -> Tensor:
    """Predictions between frames, linearly; before the middle of the first and after that of the last they stay.

    Args:
        frames: (T, C) of T frames that divide the utterance evenly.
        times: (P,) seconds after its start.
        duration: of the utterance, seconds.

    Returns:
        (P, C).
    """
    last = len(frames) - 1
    position = (times / duration * len(frames) - 0.5).clamp(0, last)  # (P,) in frames
    before = position.floor().long()
    share = (position - before).to(frames.dtype).unsqueeze(-1)  # (P, 1)
    return torch.lerp(frames[before], frames[(before + 1).clamp(max=last)], share)


def at_annotations(task: Task, output: HeadOutput, utterances: Sequence[Utterance]) -> list[Tensor]:
    """(P, C) predictions of each utterance at the P times of its annotation.

    Raises:
        ValueError: the head does not say how many of its frames are real.
    """
    if output.lengths is None:
        raise ValueError(f"The head gives no lengths, which the task {task.name!r}, frame by frame, needs. Set them.")
    logits = output.logits[task.name].float()
    return [
        at_times(row[:length], torch.from_numpy(annotation(task, utterance)[0]).to(row.device), utterance.duration)
        for row, length, utterance in zip(logits, output.lengths.tolist(), utterances, strict=True)
    ]
