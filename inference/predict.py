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
from undertone.downstream.model import UndertoneModel
from undertone.downstream.task import Task
from undertone.inference.waves import Prediction, predict_waves
from undertone.upstream.base import read_clip
from undertone.upstream.execution import TooLittleMemory, packed, side_by_side

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
            strict: raise for a file that cannot be predicted, instead of returning the reason.

        Returns:
            `{"file", "duration": seconds, task: prediction, ...}`. A prediction is `{"label", "scores": {label:
            probability}}` for classes, a value, or `{"mean", "times": seconds, "values"}` for values per frame. Heads
            with attention add `attention`, `{"times": seconds, "weights"}`, the weights of the frames, which sum to 1.
            A file that cannot be read, or that the memory does not hold, gives `{"file", "error": reason}`.

        Raises:
            ValueError: an element of `files` is not a path; with `strict`, for the first file that has no prediction:
                an `AudioError`, or `TooLittleMemory`.
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
                if isinstance(result, AudioError | TooLittleMemory):
                    _add_error(rows[index], result, strict)
                else:
                    rows[index] |= result
        return rows

    def _predict_files(
        self, batches: list[list[int]], paths: Sequence[str | PathLike[str]]
    ) -> Iterator[tuple[int, Prediction | AudioError | TooLittleMemory]]:
        """(index, prediction or error) of each file; threads read, and on a CPU compute, the next batches."""

        def read(batch: Sequence[int]) -> list[Tensor | AudioError]:
            return [read_clip(self.model.upstream, paths[index]) for index in batch]

        if self.model.device.type == "cpu" and len(batches) > 1:
            done = side_by_side(self.model, batches, lambda twin, batch: Predictor(twin)._predict_read(read(batch)))
        else:
            done = ((batch, self._predict_read(found)) for batch, found in ahead(batches, read))
        for batch, results in done:
            yield from zip(batch, results, strict=True)

    def _predict_read(self, waves: list[Tensor | AudioError]) -> list[Prediction | AudioError | TooLittleMemory]:
        """A prediction for each wave of a batch; errors stay."""
        predictions = iter(predict_waves(self.model, [wave for wave in waves if isinstance(wave, Tensor)]))
        return [next(predictions) if isinstance(wave, Tensor) else wave for wave in waves]

    def predict_wave(self, samples: np.ndarray | Tensor | Sequence[float], sample_rate: int) -> Prediction:
        """The prediction for samples in memory.

        Args:
            samples: (N,) mono floats in [-1, 1].
            sample_rate: Hz; resampled to the model's.

        Raises:
            ValueError: not one row of finite floats, no samples, more than the memory holds, or a sample rate that is
                not allowed.

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
        (found,) = predict_waves(self.model, [resampled(wave.float().cpu(), int(sample_rate), self.model.sample_rate)])
        if isinstance(found, TooLittleMemory):
            raise found
        return found


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


def _add_error(row: Prediction, error: AudioError | TooLittleMemory, strict: bool) -> None:
    if strict:
        raise error
    row["error"] = error.reason if isinstance(error, AudioError) else str(error)
