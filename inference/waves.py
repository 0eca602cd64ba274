"""The predictions of a model for samples in memory: what files, windows of long files and live audio all go through."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from undertone.downstream.head import HeadOutput
from undertone.downstream.model import UndertoneModel, utterance_logits
from undertone.downstream.task import Task, free_name
from undertone.inference.format import FIXED
from undertone.upstream.execution import TooLittleMemory, in_halves
from undertone.upstream.types import WaveBatch

Prediction = dict[str, Any]

ATTENTION = "attention"  # key of the frames' weights


def predict_waves(model: UndertoneModel, waves: Sequence[Tensor]) -> list[Prediction | TooLittleMemory]:
    """A prediction for each wave, in one batch, or in parts where the memory is short.

    Args:
        model: in eval mode.
        waves: (N_i,) float32 samples at the model's rate.

    Returns:
        `{"duration": seconds, task: prediction, ...}`, see `Predictor.predict`; the error of a wave that the memory
        does not hold alone, which no other wave suffers from.
    """
    rate = model.sample_rate
    if not waves:
        return []
    try:
        found = in_halves(partial(_predict_batch, model), waves, lambda wave: f"{len(wave) / rate:.1f} s of audio")
        return [*found]
    except TooLittleMemory as error:
        if len(waves) == 1:
            return [error]
    return [prediction for wave in waves for prediction in predict_waves(model, [wave])]


def _predict_batch(model: UndertoneModel, waves: Sequence[Tensor]) -> list[Prediction]:
    rate = model.sample_rate
    output = model.predict_batch(WaveBatch.collate(list(waves), rate))
    rows: list[Prediction] = [{"duration": len(wave) / rate} for wave in waves]
    for task in model.tasks:
        values = utterance_logits(output, task.name).float()  # (B, C)
        if task.has_classes:
            values = values.softmax(-1)
        for number, (row, scores) in enumerate(zip(rows, values.tolist(), strict=True)):
            entry = _entry(task, scores)
            if task.level == "frame":
                entry = _over_time(output, task.name, number, row["duration"], scores[0])
            row[free_name(task.name, *FIXED)] = entry
    if output.attention is not None and ATTENTION not in rows[0]:  # unless a task has that name
        for number, row in enumerate(rows):
            row[ATTENTION] = _attention(output, number, row["duration"])
    return rows


def _entry(task: Task, scores: list[float]) -> dict[str, Any] | float:
    if task.kind == "regression":
        return scores[0]
    return {
        "label": task.labels[max(range(len(scores)), key=scores.__getitem__)],
        "scores": dict(zip(task.labels, scores, strict=True)),
    }


def _frame_times(num_frames: int, duration: float) -> list[float]:
    """Seconds of the middle of each frame."""
    return [(frame + 0.5) * duration / num_frames for frame in range(num_frames)]


def _attention(output: HeadOutput, row: int, duration: float) -> dict[str, list[float]]:
    weights = output.attention_of(row).tolist()
    return {"times": _frame_times(len(weights), duration), "weights": weights}


def _over_time(output: HeadOutput, task: str, row: int, duration: float, mean: float) -> dict[str, Any]:
    values = output.logits[task][row]  # (T, 1)
    length = len(values) if output.lengths is None else int(output.lengths[row])
    return {"mean": mean, "times": _frame_times(length, duration), "values": values[:length, 0].tolist()}
