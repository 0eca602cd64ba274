"""Read sound files of any rate, width and channel count; every defect is an `AudioError` that says what is wrong.

A file's format is told from its content (an AIFF named .wav is read), never from its name. libsndfile reads what is
there of a cut-off .wav or .aiff without a word, so `_check_complete` compares what the header claims with the file.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

SPAN_SLACK_S = 0.01
"""How far a span may reach past the end of its file: tables round their times. It is cut there."""

_SOUND_CHUNKS = {b"RIFF": ("<I", b"data"), b"RIFX": (">I", b"data"), b"FORM": (">I", b"SSND")}
_STREAMED_BYTES = 0x7FFF_F000  # programs that write to a pipe claim this much or more: the length was not known yet
_MAX_SAMPLES = 2**40


class AudioError(ValueError):
    """A sound file that cannot be used.

    Attributes:
        path: the file.
        reason: what is wrong with it, without the path.
    """

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[AudioError], tuple[str, str]]:
        return AudioError, (self.path, self.reason)


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
        sample_rate: Hz.
        channels: number of channels.
        num_samples: samples in each channel.
    """

    sample_rate: int
    channels: int
    num_samples: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.num_samples / self.sample_rate


def audio_info(path: str | PathLike[str]) -> AudioInfo:
    """Rate, channels and length of a file, without decoding it.

    Raises:
        AudioError: there is no such file, or it is no sound, cut off or empty.
    """
    with _open(path) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames)


def read_samples(
    path: str | PathLike[str], start: float | None = None, end: float | None = None
) -> tuple[np.ndarray, int]:
    """Decode a file, or the span of it from `start` to `end`, and average its channels.

    Args:
        path: a file that libsndfile reads: wav, flac, aiff, ogg, mp3, ...
        start: seconds; None = the beginning.
        end: seconds; None = the end of the file.

    Returns:
        (N,) float32 mono samples in [-1, 1], N >= 1, and the file's sample rate in Hz.

    Raises:
        AudioError: as `audio_info`, or the span lies outside the file, or a sample is not a finite number.
    """
    with _open(path) as file:
        first, last = _span(path, file.frames, file.samplerate, start, end)
        file.seek(first)
        samples = file.read(last - first, dtype="float32", always_2d=True)  # (N, channels)
        sample_rate = file.samplerate
    if len(samples) < last - first:
        raise AudioError(path, f"truncated: decoding stopped at sample {first + len(samples)} of {last}.")
    mono = np.ascontiguousarray(samples[:, 0]) if samples.shape[1] == 1 else samples.mean(axis=1)  # (N,)
    if not np.isfinite(mono).all():
        raise AudioError(path, f"{np.count_nonzero(~np.isfinite(mono))} of {len(mono)} samples are NaN or infinite.")
    return mono, sample_rate


def read_audio(
    path: str | PathLike[str], sample_rate: int, start: float | None = None, end: float | None = None
) -> Tensor:
    """`read_samples`, resampled to `sample_rate` Hz with torchaudio's windowed sinc.

    Returns:
        (N,) float32 mono samples.

    Raises:
        AudioError: see `read_samples`.
    """
    import torch
    from torchaudio.functional import resample

    samples, file_rate = read_samples(path, start, end)
    wave: Tensor = resample(torch.from_numpy(samples), file_rate, sample_rate)
    return wave


@contextmanager
def _open(path: str | PathLike[str]) -> Iterator[soundfile.SoundFile]:
    """A checked, non-empty sound file; whatever libsndfile says about it becomes an `AudioError`."""
    path = Path(path)
    if path.is_dir():
        raise AudioError(path, "this is a folder, not a sound file.")
    try:
        with path.open("rb") as raw:
            _check_complete(path, raw)
        with soundfile.SoundFile(path) as file:
            if file.frames == 0:
                raise AudioError(path, "the file holds no samples.")
            if file.frames > _MAX_SAMPLES:
                raise AudioError(path, "the header does not say how long the sound is; write it anew with ffmpeg.")
            yield file
    except FileNotFoundError as error:
        raise AudioError(path, "no such file.") from error
    except OSError as error:
        raise AudioError(path, f"cannot be opened: {error.strerror or error}.") from error
    except soundfile.LibsndfileError as error:
        raise AudioError(path, f"not readable as sound, or damaged: {error.error_string.rstrip('.')}.") from error


def _check_complete(path: Path, raw: BinaryIO) -> None:
    """Refuse an empty file, and a wav or aiff whose sound chunk is longer than the file."""
    size = path.stat().st_size
    if size == 0:
        raise AudioError(path, "the file is empty (0 bytes).")
    order, sound_chunk = _SOUND_CHUNKS.get(raw.read(12)[:4], ("", b""))
    while order and len(header := raw.read(8)) == 8:
        (claimed,) = struct.unpack(order, header[4:])
        present = size - raw.tell()
        if header[:4] == sound_chunk:
            if present < claimed < _STREAMED_BYTES:
                raise AudioError(path, f"truncated: the header claims {claimed} bytes of sound, {present} are there.")
            return
        raw.seek(claimed + claimed % 2, 1)


def _span(
    path: str | PathLike[str], num_samples: int, rate: int, start: float | None, end: float | None
) -> tuple[int, int]:
    """Seconds -> first sample and the one after the last, checked against the file."""
    first = 0 if start is None else round(start * rate)
    last = num_samples if end is None else round(end * rate)
    if not 0 <= first < num_samples or not first < last <= num_samples + SPAN_SLACK_S * rate:
        span = f"{0.0 if start is None else start:g} to {num_samples / rate if end is None else end:g} s"
        raise AudioError(path, f"the span {span} is empty or outside the file, which lasts {num_samples / rate:g} s.")
    return first, min(last, num_samples)
