"""What can be predicted, each as a `Recording`: files, encoded files in memory, samples, rows of data sets."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undertone.audio.read import AudioError, audio_info, loudness_warning, resampled
from undertone.upstream.base import Upstream, read_clip, too_long
from undertone.upstream.types import Wave

MOST_CHANNELS = 64  # of samples in memory: the shorter axis, if it is no longer than this
TAKEN = (
    "paths of audio files, file objects, bytes of a file, (samples, rate), {'array', 'sampling_rate'} as transformers' "
    "pipelines take, or arrays with sample_rate=16000"
)


@dataclass(frozen=True)
class Recording:
    """One recording to predict: a file, or a part of it; an encoded file in memory; or samples.

    Attributes:
        name: what the prediction calls its `file`; None: the prediction has none.
        path: the file.
        start: seconds into the file; None = its beginning.
        end: seconds into the file; None = its end.
        video: the file with its pictures, for a model that looks at them; None: `path`.
        boxes: a table of the faces in them (`read_pictures`); None: the middle.
        content: an encoded file, as it lies on a disk.
        samples: (N,) float32 mono samples in [-1, 1].
        sample_rate: Hz of `samples`.
    """

    name: str | None
    path: str | PathLike[str] | None = None
    start: float | None = None
    end: float | None = None
    video: str | None = None
    boxes: str | None = None
    content: bytes | None = None
    samples: Tensor | None = None
    sample_rate: int = 0

    def seconds(self) -> float:
        """How long it is, as far as can be told without decoding it; 0 of what cannot be read."""
        if self.samples is not None:
            return len(self.samples) / self.sample_rate
        if self.path is None:
            return 0.0
        try:
            return (self.end or audio_info(self.path).duration) - (self.start or 0.0)
        except AudioError:
            return 0.0

    def wave(self, upstream: Upstream) -> Wave | AudioError:
        """(N,) samples at the upstream's rate; what cannot be read, or is longer than it takes, is an error returned.

        An encoded file in memory is read as every file is, through one in the folder of temporary files. What has no
        video is an error where the upstream sees: it has learned from clips with video, and would be given nothing.
        """
        found = self._wave(upstream)
        is_seen = isinstance(found, AudioError) or not upstream.sees or getattr(found, "pictures", None) is not None
        name = self.name or "samples"
        return found if is_seen else AudioError(name, f"there is no video, which {upstream.name} looks at.")

    def _wave(self, upstream: Upstream) -> Wave | AudioError:
        if self.content is not None:
            with tempfile.NamedTemporaryFile(prefix="undertone-") as file:
                file.write(self.content)
                file.flush()
                return read_clip(upstream, file.name)
        if self.path is not None:
            return read_clip(upstream, self.path, self.start, self.end, self.video, self.boxes)
        return _resampled(self.samples, self.sample_rate, self.name, upstream)


def _resampled(samples: Tensor | None, rate: int, name: str | None, upstream: Upstream) -> Tensor | AudioError:
    """`Recording.wave` of samples."""
    name = name or "samples"
    if samples is None or not len(samples):
        return AudioError(name, "there are no samples.")
    if bad := int((~samples.isfinite()).sum()):
        return AudioError(name, f"{bad} of {len(samples)} samples are NaN or infinite.")
    seconds, limit = len(samples) / rate, upstream.max_seconds
    if seconds > limit:
        return AudioError(name, f"{upstream.name} {too_long(seconds, limit)}")
    return resampled(samples, rate, upstream.sample_rate)


def recordings_of(inputs: Any, sample_rate: int | None = None) -> Iterable[Recording]:
    """The recordings of what `Predictor.predict` was given: a list where that had a length, else an iterator.

    Raises:
        ValueError: an element that is no audio; an iterator raises when it comes to it.
    """
    if _is_one(inputs):
        return [as_recording(inputs, sample_rate)]
    if not isinstance(inputs, Iterable):
        raise ValueError(f"predict() takes {TAKEN}; got {kind_of(inputs)}.")
    inputs = _undecoded(inputs)
    if isinstance(inputs, list | tuple):
        return [as_recording(item, sample_rate) for item in inputs]
    recordings = (as_recording(item, sample_rate) for item in inputs)
    return _Sized(recordings, len(inputs)) if hasattr(inputs, "__len__") else recordings


class _Sized:
    """An iterator of known length."""

    def __init__(self, recordings: Iterator[Recording], length: int) -> None:
        self.recordings, self.length = recordings, length

    def __iter__(self) -> Iterator[Recording]:
        return self.recordings

    def __len__(self) -> int:
        return self.length


def _is_one(inputs: Any) -> bool:
    """Whether this is one recording, and not several."""
    is_pair = isinstance(inputs, tuple) and len(inputs) == 2 and not isinstance(inputs[0], str | PathLike)
    return (
        isinstance(inputs, str | PathLike | bytes | bytearray | Mapping | np.ndarray | Tensor | Recording)
        or hasattr(inputs, "read")
        or (is_pair and isinstance(inputs[1], Real))
    )


def _undecoded(column: Any) -> Any:
    """A column of audio of a `datasets.Dataset` with its files as they are: decoding them there needs torchcodec."""
    if type(column).__module__.partition(".")[0] != "datasets" or not hasattr(column, "column_name"):
        return column
    import datasets

    table, name = column.source, column.column_name
    if not isinstance(table, datasets.Dataset) or not isinstance(table.features[name], datasets.Audio):
        return column
    return table.with_format(None).cast_column(name, datasets.Audio(decode=False))[name]


def as_recording(item: Any, sample_rate: int | None = None) -> Recording:
    """The recording of one element.

    Raises:
        ValueError: it is no audio; the message says what is taken.
    """
    if isinstance(item, Recording):
        return item
    if isinstance(item, str | PathLike):
        return Recording(os.fsdecode(item), item)
    if isinstance(item, bytes | bytearray):
        return Recording(None, content=bytes(item))
    if hasattr(item, "read"):
        name, content = getattr(item, "name", None), item.read()
        if not isinstance(content, bytes):
            raise ValueError(f"A file object must give bytes, got {kind_of(content)}. Open the file with mode 'rb'.")
        return Recording(name if isinstance(name, str) else None, content=content)
    if isinstance(item, Mapping):
        return _of_mapping(item, sample_rate)
    if isinstance(item, tuple) and len(item) == 2:  # as librosa, soundfile and torchaudio load
        return _of_samples(item[0], item[1])
    if hasattr(item, "get_all_samples"):  # a decoder of torchcodec, as data sets give
        decoded = item.get_all_samples()
        return _of_samples(decoded.data, decoded.sample_rate)
    if isinstance(item, np.ndarray | Tensor) and sample_rate is not None:
        return _of_samples(item, sample_rate)
    if isinstance(item, np.ndarray | Tensor):
        raise ValueError(f"Got {kind_of(item)} without its rate: predict(samples, sample_rate=16000).")
    raise ValueError(f"predict() takes {TAKEN}; got {kind_of(item)}.")


def _of_mapping(item: Mapping[Any, Any], sample_rate: int | None) -> Recording:
    """A dict of transformers' pipelines or of a data set."""
    path, rate = item.get("path"), item.get("sampling_rate", sample_rate)
    name = os.fsdecode(path) if isinstance(path, str | PathLike) else None
    for key in ("array", "raw"):
        if item.get(key) is not None:
            if rate is None:
                raise ValueError(f"The dict has {key!r} and no 'sampling_rate' in Hz.")
            return _of_samples(item[key], rate, name)
    if isinstance(item.get("bytes"), bytes):
        return Recording(name, content=item["bytes"])
    if name is not None:
        return Recording(name, name)
    keys = ", ".join(map(repr, item)) or "no keys"
    raise ValueError(
        f"A dict of audio has 'array' or 'raw' with 'sampling_rate', or 'bytes', or 'path'; this one has {keys}. "
        f"Of a data set give the column of its audio: data['audio']."
    )


def _of_samples(samples: Any, sample_rate: Any, name: str | None = None) -> Recording:
    """Samples in memory, their channels averaged."""
    is_number = isinstance(sample_rate, Real) and not isinstance(sample_rate, bool)
    if not is_number or float(sample_rate) % 1 != 0:
        raise ValueError(f"sample_rate={sample_rate!r} must be a whole number of Hz, such as 16000.")
    try:
        wave = torch.as_tensor(samples).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"Expected (N,) floats in [-1, 1], got {kind_of(samples)}. predict() takes {TAKEN}."
        ) from error
    if wave.ndim == 2 and min(wave.shape) <= MOST_CHANNELS < max(wave.shape):
        wave = wave.float().mean(int(wave.shape[1] < wave.shape[0]))  # (N,), from (channels, N) or (N, channels)
    if wave.ndim != 1 or not wave.is_floating_point():
        raise ValueError(
            f"Expected floats in [-1, 1], (N,) or {MOST_CHANNELS} channels at most, got shape {tuple(wave.shape)} of "
            f"{wave.dtype}. Several recordings go in a list; divide 16 bit integers by 32768."
        )
    resampled(torch.zeros(1), int(sample_rate), 16_000)  # refuses a rate that is none
    if len(wave) and (loud := loudness_warning(float(wave.abs().max()))):
        warnings.warn(f"The wave has {loud}. Divide it by its largest value.", stacklevel=4)
    return Recording(name, samples=wave.float().cpu(), sample_rate=int(sample_rate))


def kind_of(value: Any) -> str:
    """`a list`, `None`, for a message."""
    name = type(value).__name__
    return "None" if value is None else f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"
