"""The predictions of a model for samples in memory: what files, windows of long files and live audio all go through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from undertone.audio.read import AudioError
from undertone.audio.speech import no_speech
from undertone.downstream.head import HeadOutput, readable, task_output
from undertone.downstream.model import UndertoneModel, utterance_logits
from undertone.downstream.transformers_model import TransformersModel
from undertone.inference.format import ATTENTION, EMBEDDING, NO_SPEECH, Prediction, task_key
from undertone.upstream.execution import TooLittleMemory, in_halves
from undertone.upstream.types import Wave, WaveBatch, sound_of

BATCH_SECONDS = 60.0  # padded audio in a batch on an accelerator
ADVICE = "Cut it into windows: --window 5, or predict_long(file, window=5)."

Found = Prediction | AudioError | TooLittleMemory


@dataclass(frozen=True)
class Extras:
    """What a prediction has beside its tasks."""

    attention: bool = False
    embedding: bool = False


NOTHING_MORE = Extras()


def predict_waves(
    model: UndertoneModel | TransformersModel,
    waves: Sequence[Wave],
    extras: Extras = NOTHING_MORE,
    any_sound: bool = True,
) -> list[Found]:
    """A prediction for each wave, in one batch, or in parts where the memory is short.

    Args:
        model: in eval mode.
        waves: (N_i,) float32 samples at the model's rate, on the CPU.
        extras: what to add to the tasks.
        any_sound: predict what is no speech too.

    Returns:
        `{"duration": seconds, task: prediction, ...}`, see `Predictor.predict`, or `{"duration", "no_speech": reason}`;
        the error of a wave that the memory does not hold alone, or whose scores are not finite, which no other wave
        suffers from.
    """
    rate = model.sample_rate
    if not waves:
        return []
    if not any_sound:
        reasons = [no_speech(sound_of(wave), rate) for wave in waves]
        spoken = [wave for wave, reason in zip(waves, reasons, strict=True) if reason is None]
        found = iter(predict_waves(model, spoken, extras))
        return [
            next(found) if reason is None else {"duration": len(wave) / rate, NO_SPEECH: reason}
            for wave, reason in zip(waves, reasons, strict=True)
        ]
    compute = partial(_predict_batch, model, extras)
    try:
        return in_halves(compute, waves, lambda wave: f"{len(wave) / rate:.1f} s of audio at once", ADVICE)
    except TooLittleMemory as error:
        if len(waves) == 1:
            return [error]
    return [prediction for wave in waves for prediction in predict_waves(model, [wave], extras)]


def check_sound_alone(model: UndertoneModel | TransformersModel, what: str) -> None:
    """Refuse a model that looks at pictures where only sound is handed on.

    Raises:
        ValueError: see above; `what` begins the sentence.
    """
    if model.upstream.sees:
        raise ValueError(
            f"{what} for sound alone, and {model.upstream.name} looks at pictures too. Predict whole files of video, "
            f"or rows of a table with start and end."
        )


def batch_limit(model: UndertoneModel | TransformersModel, batch_seconds: float | None) -> float:
    """Seconds of audio in a batch, with padding; 0: each clip alone, which is the default on a CPU.

    Raises:
        ValueError: `batch_seconds` is no number of seconds.
    """
    if batch_seconds is None:
        return 0.0 if model.device.type == "cpu" else BATCH_SECONDS
    if not (isinstance(batch_seconds, int | float) and batch_seconds >= 0):
        raise ValueError(f"batch_seconds={batch_seconds!r} must be seconds, 0 or more, or None.")
    return float(batch_seconds)


def _predict_batch(model: UndertoneModel | TransformersModel, extras: Extras, waves: Sequence[Wave]) -> list[Found]:
    rate = model.sample_rate
    output = model.predict_batch(WaveBatch.collate(list(waves), rate))
    rows: list[Prediction] = [{"duration": len(wave) / rate} for wave in waves]
    wrong: set[int] = set()
    for task in model.tasks:
        values = task_output(task, utterance_logits(output, task.name))  # (B, C)
        calibration = model.config.calibration.get(task.name)
        for number, (row, scores) in enumerate(zip(rows, values.tolist(), strict=True)):
            if not all(map(math.isfinite, scores)):
                wrong.add(number)
                continue
            entry = readable(task, scores)
            if calibration is not None and isinstance(entry, dict):
                entry["unsure"] = max(scores) < calibration["unsure_below"]
            if task.level == "frame":
                entry = _over_time(output, task.name, number, row["duration"], scores[0])
            row[task_key(task.name)] = entry
    for number, row in enumerate(rows):
        if extras.attention and output.attention is not None and number not in wrong:
            row[ATTENTION] = _attention(output, number, row["duration"])
        if extras.embedding:
            row[EMBEDDING] = output.embedding[number].float().tolist()  # (E,)
    return [
        AudioError("", "the model's scores for it are not finite numbers.") if number in wrong else row
        for number, row in enumerate(rows)
    ]


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
