"""Predictions of a trained model for recordings: files, samples in memory, rows of data sets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undertone.audio.batches import ahead, plan_batches
from undertone.audio.read import AudioError
from undertone.common.hub_client import find_model
from undertone.downstream.head import HeadOutput
from undertone.downstream.model import UndertoneModel, utterance_logits
from undertone.downstream.task import Task, free_name
from undertone.inference.format import FIXED, Prediction, Predictions
from undertone.inference.recordings import Recording, TooLarge, as_recording, recordings_of
from undertone.upstream.execution import MOST, in_halves, packed, side_by_side
from undertone.upstream.types import WaveBatch

ATTENTION = "attention"  # key of the frames' weights
EMBEDDING = "embedding"
BATCH_SECONDS = 60.0  # padded audio in a batch on an accelerator
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
    return Predictor(model, str(where))


def _device(device: str | torch.device | None) -> torch.device:
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is not a torch device. Use 'cpu', 'cuda' or 'cuda:1'.") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={device!r}, but torch sees {torch.cuda.device_count()} GPUs here. Use device='cpu'.")
    return chosen


@dataclass(frozen=True)
class _Extras:
    """What a prediction has besides its tasks."""

    attention: bool = False
    embedding: bool = False


class Predictor:
    """Predicts all tasks of a model.

    Attributes:
        model: the `UndertoneModel`, in eval mode.
        name: where it was loaded from; "" if it was not.

    Example:
        >>> import undertone
        >>> model = undertone.load_model("runs/quickstart")  # a run, a model folder, or user/name on the Hub
        >>> model.predict("call.wav")[0]["emotion"]["label"] in ("angry", "happy", "neutral", "sad")
        True
    """

    def __init__(self, model: UndertoneModel, name: str = "") -> None:
        self.model = model.eval()
        self.name = name

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the model, with the order of their classes."""
        tasks: tuple[Task, ...] = self.model.tasks
        return tasks

    def __repr__(self) -> str:
        return f"Predictor({', '.join(f'{key}: {value}' for key, value in self._facts().items())})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from undertone.inference.format import facts_as_html

        return facts_as_html(self._facts())

    def _facts(self) -> dict[str, str]:
        model = self.model
        tasks = {task.name: ", ".join(task.labels) if task.has_classes else "a value" for task in self.tasks}
        facts = {"model": self.name or type(model).__name__, **tasks}
        facts["upstream"] = str(getattr(model.upstream, "name", type(model.upstream).__name__))
        facts["sample rate"] = f"{model.sample_rate} Hz"
        return facts | {"device": str(model.device)}

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
            Samples have no `file`. What cannot be read, or does not fit into the memory, gives `{"file", "error":
            reason}`.

        Raises:
            AudioError: with `strict`, for the first unreadable recording.
            ValueError: an element of `inputs` is no recording.

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
        limit = self._limit(batch_seconds)
        with packed(self.model) if self._is_long(recordings) else nullcontext():
            return Predictions(self._each(recordings, limit, strict, _Extras(attention, embeddings)))

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
        return self._each(recordings, self._limit(batch_seconds), strict, _Extras(attention, embeddings))

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
        (row,) = self._each([as_recording((samples, sample_rate))], 0.0, True, _Extras())
        return row

    def _limit(self, batch_seconds: float | None) -> float:
        """Seconds of a batch; 0: each recording alone."""
        if batch_seconds is None:
            return 0.0 if self.model.device.type == "cpu" else BATCH_SECONDS
        if not (isinstance(batch_seconds, int | float) and batch_seconds >= 0):
            raise ValueError(f"batch_seconds={batch_seconds!r} must be seconds, 0 or more, or None.")
        return float(batch_seconds)

    def _is_long(self, recordings: Iterable[Recording]) -> bool:
        """Whether this is so much audio on a CPU that packing the weights pays; an iterator's length is not known."""
        if self.model.device.type != "cpu" or not isinstance(recordings, list):
            return False
        seconds = 0.0
        return any((seconds := seconds + recording.seconds()) >= PACKED_FROM for recording in recordings)

    def _each(
        self, recordings: Iterable[Recording], limit: float, strict: bool, extras: _Extras
    ) -> Iterator[Prediction]:
        """Predictions in the order of the recordings, each as soon as all before it are done."""
        waiting: dict[int, Prediction] = {}
        turn = 0
        for (index, recording), result in self._results(recordings, limit, extras):
            if isinstance(result, AudioError) and strict:
                raise result
            found = {"error": result.reason} if isinstance(result, AudioError) else result
            waiting[index] = ({"file": recording.name} if recording.name is not None else {}) | found
            while turn in waiting:
                yield waiting.pop(turn)
                turn += 1

    def _results(
        self, recordings: Iterable[Recording], limit: float, extras: _Extras
    ) -> Iterator[tuple[Job, Prediction | AudioError]]:
        """Each recording with its prediction or error; threads read, and on a CPU compute, the next batches."""
        jobs = _batches(enumerate(recordings), limit)
        first = list(islice(jobs, 2))
        jobs = chain(first, jobs)
        if self.model.device.type != "cpu" or len(first) < 2:
            for batch, waves in ahead(jobs, self._read):
                yield from zip(batch, self._predict_read(waves, extras), strict=True)
            return
        at_work = Semaphore(MOST)

        def work(twin: UndertoneModel, batch: Sequence[Job]) -> list[Prediction | AudioError]:
            with at_work:
                return Predictor(twin)._predict_read(self._read(batch), extras)

        for batch, results in side_by_side(self.model, jobs, work):
            for job, result in zip(batch, results, strict=True):
                if isinstance(result, TooLarge):  # beside others; it may fit when all of them have finished
                    for _ in range(MOST):
                        at_work.acquire()
                    try:
                        (result,) = self._predict_read(self._read([job]), extras)
                    finally:
                        at_work.release(MOST)
                yield job, result

    def _read(self, batch: Sequence[Job]) -> list[Tensor | AudioError]:
        return [recording.wave(self.model.upstream) for _, recording in batch]

    def _predict_read(self, waves: list[Tensor | AudioError], extras: _Extras) -> list[Prediction | AudioError]:
        """A prediction for each wave of a batch; errors stay."""
        found = [wave for wave in waves if isinstance(wave, Tensor)]
        predictions = iter(self._predict_waves(found, extras))
        return [next(predictions) if isinstance(wave, Tensor) else wave for wave in waves]

    def _predict_waves(self, waves: list[Tensor], extras: _Extras) -> list[Prediction | AudioError]:
        """Predictions of (N_i,) waves at the model's rate, in one batch, or in parts where memory is short."""
        if not waves:
            return []

        def too_large(wave: Tensor, error: Exception) -> Prediction | AudioError:
            seconds, reason = len(wave) / self.model.sample_rate, (str(error) or "no room").split("\n")[0]
            return TooLarge("", f"the memory does not hold {seconds:.1f} s of audio at once: {reason} Cut it.")

        return in_halves(lambda part: self._predict_batch(part, extras), waves, too_large)

    def _predict_batch(self, waves: Sequence[Tensor], extras: _Extras) -> list[Prediction | AudioError]:
        rate = self.model.sample_rate
        output = self.model.predict_batch(WaveBatch.collate(list(waves), rate))
        rows: list[Prediction] = [{"duration": len(wave) / rate} for wave in waves]
        wrong: set[int] = set()
        for task in self.tasks:
            values = utterance_logits(output, task.name).float()  # (B, C)
            if task.has_classes:
                values = values.softmax(-1)
            for number, (row, scores) in enumerate(zip(rows, values.tolist(), strict=True)):
                if not all(map(math.isfinite, scores)):
                    wrong.add(number)
                    continue
                entry = _entry(task, scores)
                if task.level == "frame":
                    entry = _over_time(output, task.name, number, row["duration"], scores[0])
                row[free_name(task.name, *FIXED)] = entry
        for number, row in enumerate(rows):
            if extras.attention and output.attention is not None and number not in wrong:
                row.setdefault(ATTENTION, _attention(output, number, row["duration"]))  # unless a task has that name
            if extras.embedding:
                row.setdefault(EMBEDDING, output.embedding[number].float().tolist())
        return [
            AudioError("", "the model's scores for it are not finite numbers.") if number in wrong else row
            for number, row in enumerate(rows)
        ]


def _batches(jobs: Iterator[Job], limit: float) -> Iterator[list[Job]]:
    """Batches of at most `limit` seconds, of like length within a window of recordings; 0: each alone, in order."""
    if not limit:
        yield from ([job] for job in jobs)
        return
    while window := list(islice(jobs, WINDOW)):
        yield from plan_batches(window, lambda job: job[1].seconds(), limit)


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
