"""Predictions of a trained model for audio files and samples."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undertone.audio.batches import ahead, plan_batches
from undertone.audio.read import AudioError, audio_info, loudness_warning, resampled
from undertone.common.hub_client import find_model
from undertone.downstream.head import HeadOutput
from undertone.downstream.model import UndertoneModel, utterance_logits
from undertone.downstream.task import Task, free_name
from undertone.inference.format import FIXED
from undertone.upstream.base import read_clip
from undertone.upstream.execution import in_halves, packed, side_by_side
from undertone.upstream.types import WaveBatch

Prediction = dict[str, Any]

ATTENTION = "attention"  # key of the frames' weights
BATCH_SECONDS = 60.0  # padded audio in a batch on an accelerator
PACKED_FROM = 60.0  # seconds of audio from which packing the weights saves more time than it takes


def load_model(
    where: str | Path,
    *,
    fold: str | None = None,
    revision: str | None = None,
    device: str | torch.device | None = None,
    allow: tuple[str, ...] = (),
) -> Predictor:
    """Load a trained model.

    Args:
        where: a run, a model folder, or a Hub id `user/name` (downloaded once, then cached).
        fold: for a run, the model of this fold instead of the one trained on all speakers.
        revision: for a Hub id, the branch, tag or commit.
        device: None: a GPU if there is one.
        allow: packages whose classes the model's config may name (`my_pkg` for the head `my_pkg.heads:MyHead`).

    Raises:
        ValueError: no model, or one that does not load; the message says what to do.
        HubError: the Hub refused, or could not be reached.
    """
    chosen = _device(device)
    folder = find_model(where, fold=fold, revision=revision)
    model = UndertoneModel.from_pretrained(folder, allow=allow)
    model.to(chosen)  # type: ignore[arg-type]  # wraps
    return Predictor(model)


def _device(device: str | torch.device | None) -> torch.device:
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is not a torch device. Use 'cpu', 'cuda' or 'cuda:1'.") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={device!r}, but torch sees {torch.cuda.device_count()} GPUs here. Use device='cpu'.")
    return chosen


class Predictor:
    """Predicts all tasks of a model for audio files or samples.

    Attributes:
        model: the `UndertoneModel`, in eval mode.

    Example:
        >>> load_model("runs/emodb").predict(["call.wav"])  # doctest: +SKIP
        [{'file': 'call.wav', 'duration': 2.1, 'emotion': {'label': 'angry', 'scores': {'angry': 0.83, ...}}}]
    """

    def __init__(self, model: UndertoneModel) -> None:
        self.model = model.eval()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the model, with the order of their classes."""
        tasks: tuple[Task, ...] = self.model.tasks
        return tasks

    def predict(
        self,
        files: str | PathLike[str] | Iterable[str | PathLike[str]],
        *,
        batch_seconds: float | None = None,
        strict: bool = False,
    ) -> list[Prediction]:
        """One prediction per file, in the order of `files`, independent of how files are batched.

        Args:
            files: paths of files of any sample rate, channel count and length, or a single path.
            batch_seconds: audio per batch, including padding; a longer file is a batch by itself. None: 60 on an
                accelerator, one file on a CPU, which processes several batches in parallel.
            strict: raise for a file that cannot be read, instead of returning the reason.

        Returns:
            `{"file", "duration": seconds, task: prediction, ...}`. A prediction is `{"label", "scores": {label:
            probability}}` for classes, a value, or `{"mean", "times": seconds, "values"}` for values per frame. Heads
            with attention add `attention`, `{"times": seconds, "weights"}`, the weights of the frames, which sum to 1.
            A file that cannot be read gives `{"file", "error": reason}`.

        Raises:
            AudioError: with `strict`, for the first unreadable file.
            ValueError: an element of `files` is not a path, or a single file does not fit into the device's memory.
        """
        paths = _paths(files)
        if batch_seconds is not None and not (isinstance(batch_seconds, int | float) and batch_seconds >= 0):
            raise ValueError(f"batch_seconds={batch_seconds!r} must be seconds, 0 or more, or None.")
        rows: list[Prediction] = [{"file": str(path)} for path in paths]
        durations: dict[int, float] = {}
        for index, path in enumerate(paths):
            try:
                durations[index] = audio_info(path).duration
            except AudioError as error:
                _add_error(rows[index], error, strict)
        on_cpu = self.model.device.type == "cpu"
        limit = batch_seconds if batch_seconds is not None else 0.0 if on_cpu else BATCH_SECONDS
        batches = plan_batches(durations, durations.__getitem__, limit)
        with packed(self.model) if on_cpu and sum(durations.values()) >= PACKED_FROM else nullcontext():
            for index, result in self._predict_files(batches, paths):
                if isinstance(result, AudioError):
                    _add_error(rows[index], result, strict)
                else:
                    rows[index] |= result
        return rows

    def _predict_files(
        self, batches: list[list[int]], paths: Sequence[str | PathLike[str]]
    ) -> Iterator[tuple[int, Prediction | AudioError]]:
        """(index, prediction or error) of each file; threads read, and on a CPU compute, the next batches."""

        def read(batch: Sequence[int]) -> list[Tensor | AudioError]:
            return [read_clip(self.model.upstream, paths[index]) for index in batch]

        if self.model.device.type == "cpu" and len(batches) > 1:
            done = side_by_side(self.model, batches, lambda twin, batch: Predictor(twin)._predict_read(read(batch)))
        else:
            done = ((batch, self._predict_read(found)) for batch, found in ahead(batches, read))
        for batch, results in done:
            yield from zip(batch, results, strict=True)

    def _predict_read(self, waves: list[Tensor | AudioError]) -> list[Prediction | AudioError]:
        """A prediction for each wave of a batch; errors stay."""
        predictions = iter(self._predict_waves([wave for wave in waves if isinstance(wave, Tensor)]))
        return [next(predictions) if isinstance(wave, Tensor) else wave for wave in waves]

    def predict_wave(self, samples: np.ndarray | Tensor | Sequence[float], sample_rate: int) -> Prediction:
        """The prediction for samples in memory.

        Args:
            samples: (N,) mono floats in [-1, 1].
            sample_rate: Hz; resampled to the model's.

        Raises:
            ValueError: not one row of finite floats, no samples, or a sample rate that is not allowed.

        Warns:
            UserWarning: samples outside -2 to 2, as of 16 bit integers that were not divided.
        """
        try:
            wave = torch.as_tensor(samples).detach()
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"Expected (N,) floats in [-1, 1], got {_kind(samples)}. predict() takes the path of a file."
            ) from error
        if isinstance(sample_rate, bool) or not isinstance(sample_rate, Real) or sample_rate % 1 != 0:
            raise ValueError(f"sample_rate={sample_rate!r} must be a whole number of Hz, such as 16000.")
        if wave.ndim != 1 or not len(wave) or not wave.is_floating_point():
            raise ValueError(
                f"Expected (N,) floats in [-1, 1], got shape {tuple(wave.shape)} of {wave.dtype}. "
                f"Average the channels; divide 16 bit integers by 32768."
            )
        if not wave.isfinite().all():
            raise ValueError(f"{int((~wave.isfinite()).sum())} of {len(wave)} samples are NaN or infinite.")
        if loud := loudness_warning(float(wave.abs().max())):
            warnings.warn(f"The wave has {loud}. Divide it by its largest value.", stacklevel=2)
        return self._predict_waves([resampled(wave.float().cpu(), int(sample_rate), self.model.sample_rate)])[0]

    def _predict_waves(self, waves: list[Tensor]) -> list[Prediction]:
        """Predictions of (N_i,) waves at the model's rate, in one batch, or in parts where memory is short."""
        rate = self.model.sample_rate
        return in_halves(self._predict_batch, waves, lambda wave: f"{len(wave) / rate:.1f} s of audio") if waves else []

    def _predict_batch(self, waves: Sequence[Tensor]) -> list[Prediction]:
        rate = self.model.sample_rate
        output = self.model.predict_batch(WaveBatch.collate(list(waves), rate))
        rows: list[Prediction] = [{"duration": len(wave) / rate} for wave in waves]
        for task in self.tasks:
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


def _paths(files: Any) -> list[str | PathLike[str]]:
    """The paths; anything else is refused, because Python opens integers and iterates over the keys of a dict."""
    if isinstance(files, str | PathLike):
        return [files]
    paths = list(files) if isinstance(files, Iterable) and not isinstance(files, Mapping | bytes) else [files]
    for path in paths:
        if not isinstance(path, str | PathLike):
            raise ValueError(
                f"predict() takes paths of audio files, got {_kind(path)}. Samples in memory go to "
                f"predict_wave(samples, sample_rate); write bytes to a file first."
            )
    return paths


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _add_error(row: Prediction, error: AudioError, strict: bool) -> None:
    if strict:
        raise error
    row["error"] = error.reason


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
