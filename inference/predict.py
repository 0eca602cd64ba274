"""Predictions of a trained model for recordings: files, samples in memory, rows of data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from os import PathLike
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undertone.audio.batches import ahead, plan_batches
from undertone.audio.read import AudioError
from undertone.common.hub_client import find_model, model_settings
from undertone.downstream.model import UndertoneModel
from undertone.downstream.task import Task
from undertone.downstream.transformers_model import TransformersModel, is_foreign
from undertone.inference.format import Prediction, Predictions, facts_as_html
from undertone.inference.recordings import Recording, as_recording, recordings_of
from undertone.inference.stream import Stream
from undertone.inference.timeline import Timeline
from undertone.inference.waves import Extras, Found, batch_limit, predict_waves
from undertone.inference.windows import predict_windows
from undertone.upstream.execution import MOST, TooLittleMemory, side_by_side
from undertone.upstream.linear_layers import packed
from undertone.upstream.precision import choose_precision, keep_in_precision
from undertone.upstream.types import Wave

PACKED_FROM = 60.0  # seconds of audio from which packing the weights saves more time than it takes
WINDOW = 256  # recordings that are looked at together to make batches of like length

Job = tuple[int, Recording]


def load_model(
    where: str | Path,
    *,
    fold: str | None = None,
    revision: str | None = None,
    device: str | torch.device | None = None,
    allow: tuple[str, ...] = (),
    any_sound: bool | None = None,
    mixed_precision: str = "no",
) -> Predictor:
    """Load a trained model.

    Args:
        where: a run, a model folder, or a Hub id `user/name` (downloaded once, then cached); of a model that Undertone
            trained, or of any audio-classification model of transformers (see `TransformersModel`).
        fold: for a run, the model of this fold instead of the one trained on all speakers.
        revision: for a Hub id, the branch, tag or commit.
        device: cpu, cuda, cuda:1; None or auto: a GPU if there is one.
        allow: packages whose classes the model's config may name (`my_pkg` for the head `my_pkg.heads:MyHead`).
        any_sound: predict what is no speech too, instead of giving a reason (`undertone.audio.speech`); None: as the
            model's `config.speech_only` says.
        mixed_precision: of the upstream's arithmetic: `no` (float32), `bf16`, `fp16` (on a GPU), `int8` (linear layers,
            on a CPU), or `auto`, bf16 where the device computes it natively. Such a model predicts on this device, and
            is not trained, evaluated or exported.

    Raises:
        ValueError: no model, or one that does not load, or a precision in which it computes something else; the message
            says what to do.
        HubError: the Hub refused, or could not be reached.
    """
    chosen = _device(device)
    model: UndertoneModel | TransformersModel
    if fold is None and is_foreign(model_settings(where, revision)):
        model = TransformersModel.from_pretrained(where, revision)
    else:
        model = UndertoneModel.from_pretrained(find_model(where, fold=fold, revision=revision), allow=allow)
    model.to(chosen)  # type: ignore[arg-type]  # wraps
    if isinstance(model, TransformersModel):
        model.keep_in_precision(choose_precision(model.model, chosen, mixed_precision))
    else:
        keep_in_precision(model.upstream, chosen, choose_precision(model.upstream, chosen, mixed_precision))
    return Predictor(model, str(where), any_sound)


def _device(device: str | torch.device | None) -> torch.device:
    try:
        best = "cuda" if torch.cuda.is_available() else "cpu"
        chosen = torch.device(best if device in (None, "auto") else device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is not a torch device. Use 'cpu', 'cuda' or 'cuda:1'.") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={device!r}, but torch sees {torch.cuda.device_count()} GPUs here. Use device='cpu'.")
    return chosen


class Predictor:
    """Predicts all tasks of a model.

    Attributes:
        model: the `UndertoneModel` or `TransformersModel`, in eval mode.
        name: where it was loaded from; "" if it was not.
        any_sound: whether what is no speech is predicted too.

    Example:
        >>> import undertone
        >>> model = undertone.load_model("runs/quickstart")  # a run, a model folder, or user/name on the Hub
        >>> model.predict("call.wav")[0]["emotion"]["label"] in ("angry", "happy", "neutral", "sad")
        True
    """

    def __init__(
        self, model: UndertoneModel | TransformersModel, name: str = "", any_sound: bool | None = None
    ) -> None:
        self.model = model.eval()
        self.name = name
        self.any_sound = not model.config.speech_only if any_sound is None else any_sound

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the model, with the order of their classes."""
        tasks: tuple[Task, ...] = self.model.tasks
        return tasks

    def __repr__(self) -> str:
        return f"Predictor({', '.join(f'{key}: {value}' for key, value in self._facts().items())})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return facts_as_html(self._facts())

    def _facts(self) -> dict[str, str]:
        model = self.model
        tasks = {task.name: ", ".join(task.labels) if task.has_classes else "a value" for task in self.tasks}
        facts = {"model": self.name or type(model).__name__, **tasks}
        facts["upstream"] = str(getattr(model.upstream, "name", type(model.upstream).__name__))
        facts |= {"sample rate": f"{model.sample_rate} Hz", "device": str(model.device)}
        precision = model.upstream.precision
        return facts | ({} if precision == "no" else {"mixed precision": precision})

    def predict(
        self,
        inputs: Any,
        *,
        sample_rate: int | None = None,
        batch_seconds: float | None = None,
        strict: bool = False,
        attention: bool = False,
        embeddings: bool = False,
    ) -> Predictions:
        """One prediction per recording, in their order, independent of how they are batched.

        Args:
            inputs: one recording or several, of any sample rate, channel count and length. A recording is the path of
                a file; a file object in binary mode, or the bytes of a file; samples with their rate `(samples, rate)`;
                a dict as transformers' pipelines take, `{"array" or "raw": samples, "sampling_rate": Hz}`; a row of a
                column of audio of `datasets`. Samples are floats in [-1, 1], (N,), (channels, N) or (N, channels).
            sample_rate: Hz of arrays and tensors that come without their rate.
            batch_seconds: audio per batch, including padding; a longer recording is a batch by itself. None: 60 on an
                accelerator, one recording on a CPU, which processes several batches in parallel.
            strict: raise for a recording that cannot be read, instead of returning the reason.
            attention: add `attention`, `{"times": seconds, "weights"}`: the weights of the frames, which sum to 1, of
                heads that have them.
            embeddings: add `embedding`, a list of E numbers, the vector that the outputs are computed from.

        Returns:
            a list of `{"file", "duration": seconds, task: prediction, ...}`. A prediction is `{"label", "scores":
            {label: probability}}` for classes, a value, or `{"mean", "times": seconds, "values"}` for values per frame.
            Where the model was calibrated, classes have `unsure`, true below the threshold that was learned on dev.
            Samples have no `file`. What is no speech gives `{"file", "duration", "no_speech": reason}`; what cannot be
            read, or does not fit into the memory, gives `{"file", "error": reason}`.

        Raises:
            ValueError: an element of `inputs` is no recording; with `strict`, for the first that has no prediction: an
                `AudioError`, or `TooLittleMemory`.

        Warns:
            UserWarning: samples in memory outside -2 to 2, as of 16 bit integers that were not divided.

        Example:
            >>> import numpy as np
            >>> model = undertone.load_model("runs/quickstart")
            >>> rows = model.predict(["call.wav", "missing.wav"])
            >>> [row.get("error", row["file"]) for row in rows]
            ['call.wav', 'no such file.']
            >>> rows = model.predict({"array": np.zeros(16000, "float32"), "sampling_rate": 16000}, embeddings=True)
            >>> sorted(rows[0])
            ['duration', 'embedding', 'emotion', 'gender']
        """
        recordings = recordings_of(inputs, sample_rate)
        limit = batch_limit(self.model, batch_seconds)
        with packed(self.model) if self._is_long(recordings) else nullcontext():
            return Predictions(self._each(recordings, limit, strict, Extras(attention, embeddings)))

    def predict_each(
        self,
        inputs: Any,
        *,
        sample_rate: int | None = None,
        batch_seconds: float | None = None,
        strict: bool = False,
        attention: bool = False,
        embeddings: bool = False,
    ) -> Iterator[Prediction]:
        """As `predict`, each prediction as soon as it is made; `inputs` may be an endless iterator.

        A few recordings are read ahead: on a CPU as many as it has threads and three more, on an accelerator 256.

        Example:
            >>> model = undertone.load_model("runs/quickstart")
            >>> for row in model.predict_each(Path(".").glob("*.wav")):
            ...     print(row["file"])
            call.wav
        """
        recordings = recordings_of(inputs, sample_rate)
        return self._each(recordings, batch_limit(self.model, batch_seconds), strict, Extras(attention, embeddings))

    def predict_wave(self, samples: np.ndarray | Tensor | Sequence[float], sample_rate: int) -> Prediction:
        """The prediction for samples in memory.

        Args:
            samples: (N,) floats in [-1, 1], or (channels, N) or (N, channels), which are averaged.
            sample_rate: Hz; resampled to the model's.

        Raises:
            ValueError: not finite floats, no samples, or a sample rate that is not allowed.

        Warns:
            UserWarning: samples outside -2 to 2, as of 16 bit integers that were not divided.
        """
        (row,) = self._each([as_recording((samples, sample_rate))], 0.0, True, Extras())
        return row

    def predict_long(
        self,
        file: str | PathLike[str],
        *,
        window: float | None = None,
        hop: float | None = None,
        channels: str = "mean",
        segments: str | PathLike[str] | Iterable[Any] | None = None,
        batch_seconds: float | None = None,
    ) -> Timeline:
        """Predictions over the time of a recording of any length, in bounded memory: a row for each window.

        Args and errors are those of `predict_windows`, which gives the rows one by one.

        Example:
            >>> timeline = model.predict_long("call.mp3", window=5, hop=1)  # doctest: +SKIP
            >>> timeline.save("call.html")  # doctest: +SKIP
        """
        rows = predict_windows(
            self.model,
            file,
            window=window,
            hop=hop,
            channels=channels,
            segments=segments,
            batch_seconds=batch_seconds,
            any_sound=self.any_sound,
        )
        with packed(self.model) if self.model.device.type == "cpu" else nullcontext():
            return Timeline(str(file), self.tasks, list(rows))

    def stream(self, sample_rate: int, *, window: float | None = None, hop: float | None = None) -> Stream:
        """A `Stream`: push samples as they come, get the windows of `predict_long`."""
        return Stream(self.model, sample_rate, window=window, hop=hop, any_sound=self.any_sound)

    def _is_long(self, recordings: Iterable[Recording]) -> bool:
        """Whether this is so much audio on a CPU that packing the weights pays; an iterator's length is not known."""
        if self.model.device.type != "cpu" or not isinstance(recordings, list):
            return False
        seconds = 0.0
        return any((seconds := seconds + recording.seconds()) >= PACKED_FROM for recording in recordings)

    def _each(
        self, recordings: Iterable[Recording], limit: float, strict: bool, extras: Extras
    ) -> Iterator[Prediction]:
        """Predictions in the order of the recordings, each as soon as all before it are done."""
        waiting: dict[int, Prediction] = {}
        turn = 0
        for (index, recording), result in self._results(recordings, limit, extras):
            if not isinstance(result, dict) and strict:
                raise result
            found = result if isinstance(result, dict) else {"error": getattr(result, "reason", str(result))}
            waiting[index] = ({"file": recording.name} if recording.name is not None else {}) | found
            while turn in waiting:
                yield waiting.pop(turn)
                turn += 1

    def _results(self, recordings: Iterable[Recording], limit: float, extras: Extras) -> Iterator[tuple[Job, Found]]:
        """Each recording with its prediction or error; threads read, and on a CPU compute, the next batches."""
        jobs = _batches(enumerate(recordings), limit)
        first = list(islice(jobs, 2))
        jobs = chain(first, jobs)
        if self.model.device.type != "cpu" or len(first) < 2:
            for batch, waves in ahead(jobs, self._read):
                yield from zip(batch, self._predict_read(waves, extras), strict=True)
            return
        at_work = Semaphore(MOST)

        def work(twin: UndertoneModel | TransformersModel, batch: Sequence[Job]) -> list[Found]:
            with at_work:
                return Predictor(twin, any_sound=self.any_sound)._predict_read(self._read(batch), extras)

        for batch, results in side_by_side(self.model, jobs, work):
            for job, result in zip(batch, results, strict=True):
                if isinstance(result, TooLittleMemory):  # beside others; it may fit when all of them have finished
                    for _ in range(MOST):
                        at_work.acquire()
                    try:
                        (result,) = self._predict_read(self._read([job]), extras)
                    finally:
                        at_work.release(MOST)
                yield job, result

    def _read(self, batch: Sequence[Job]) -> list[Wave | AudioError]:
        return [recording.wave(self.model.upstream) for _, recording in batch]

    def _predict_read(self, waves: list[Wave | AudioError], extras: Extras) -> list[Found]:
        """A prediction for each wave of a batch; errors stay."""
        found = [wave for wave in waves if not isinstance(wave, AudioError)]
        predictions = iter(predict_waves(self.model, found, extras, self.any_sound))
        return [wave if isinstance(wave, AudioError) else next(predictions) for wave in waves]


def _batches(jobs: Iterator[Job], limit: float) -> Iterator[list[Job]]:
    """Batches of at most `limit` seconds, of like length within a window of recordings; 0: each alone, in order."""
    if not limit:
        yield from ([job] for job in jobs)
        return
    while window := list(islice(jobs, WINDOW)):
        yield from plan_batches(window, lambda job: job[1].seconds(), limit)
