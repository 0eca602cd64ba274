"""Read audio files of any rate, width and channel count; every defect is an `AudioError` that says what is wrong.

A file's format is told from its content (an AIFF named .wav is read), never from its name. libsndfile reads what is
there of a cut-off .wav or .aiff without a word, so `_complete` compares what the header claims with the file.

libsndfile's seek is exact in PCM and FLAC. In MP3 with a variable bit rate it lands elsewhere, so a span of any other
coding is cut from the decoded file, which `_DECODED` keeps.
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from undertone.audio.containers import HEAD, Undecodable, container_kind, open_decoded
from undertone.audio.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from torch import Tensor

SPAN_SLACK_S = 0.01
"""How far a span may reach past the end of its file: tables round their times. It is cut there."""

LOUD_PEAK = 2.0
"""Peak above which samples are warned about: they should lie between -1 and 1."""

KEPT_BYTES = 2**29
"""Decoded audio that is kept for further spans: 2.3 hours at 16 kHz."""

RATES = (1_000, 768_000)
"""Least and highest sample rate that is read, in Hz."""

_SEEKABLE = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")  # FLAC is PCM too
_SAMPLE_CHUNKS = {b"RIFF": ("<I", b"data"), b"RIFX": (">I", b"data"), b"FORM": (">I", b"SSND")}
_STREAMED_BYTES = 0x7FFF_F000  # programs that write to a pipe claim this much or more: the length was not known yet
_MAX_CHUNKS = 10_000  # before the samples; what has more is no wav that a program wrote
_MAX_SAMPLES = 2**40
_BLOCK = 2**24  # values read at once: a header cannot ask for more memory than the file has samples for
_LARGEST_KERNEL = 2**23  # taps that torchaudio makes for a pair of rates: 64 MB


class AudioError(ValueError):
    """An audio file that cannot be used.

    Attributes:
        path: the file.
        reason: what is wrong with it, without the path.
    """

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        self.path = str(path).encode("utf-8", "backslashreplace").decode()  # a name that is no UTF-8 can be printed
        super().__init__(f"{self.path}: {reason}")
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
        AudioError: there is no such file, or it is not audio, cut off or empty.
    """
    with opened(path) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames)


def read_samples(
    path: str | PathLike[str], start: float | None = None, end: float | None = None
) -> tuple[np.ndarray, int]:
    """Decode a file, or the span of it from `start` to `end`, and average its channels.

    Args:
        path: a file that libsndfile reads: wav, flac, aiff, ogg, mp3, ...; what `audio.containers` reads, too.
        start: seconds; None = the beginning.
        end: seconds; None = the end of the file.

    Returns:
        (N,) float32 mono samples in [-1, 1], N >= 1, and the file's sample rate in Hz.

    Raises:
        AudioError: as `audio_info`, or the span lies outside the file, or a sample is not a finite number.
    """
    with opened(path) as file:
        first, last = span_samples(path, file.frames, file.samplerate, start, end)
        sample_rate = file.samplerate
        seekable = file.seekable() and file.subtype in _SEEKABLE
        if seekable:
            file.seek(first)
        else:
            file.seekable = lambda: False  # soundfile seeks after each read, after which MP3 decodes other samples
        if seekable or last - first == file.frames or 4 * file.frames > KEPT_BYTES:
            mono = _read_mono(file, last - first, skip=0 if seekable else first)  # (N,)
        else:
            mono = _DECODED.get(  # (N,)
                path, lambda: _read_mono(file, file.frames), lambda samples: samples[first:last].copy()
            )
    if len(mono) < last - first:
        raise AudioError(path, f"truncated: decoding stopped at sample {first + len(mono)} of {last}.")
    if not np.isfinite(mono).all():
        raise AudioError(path, f"{np.count_nonzero(~np.isfinite(mono))} of {len(mono)} samples are NaN or infinite.")
    return mono, sample_rate


def read_audio(
    path: str | PathLike[str], sample_rate: int, start: float | None = None, end: float | None = None
) -> Tensor:
    """`read_samples`, then `resampled`: (N,) float32 mono samples."""
    import torch

    samples, file_rate = read_samples(path, start, end)
    return resampled(torch.from_numpy(samples), file_rate, sample_rate)


def loudness_warning(peak: float) -> str | None:
    """`samples up to 3.2; ...` where samples are too large to be audio between -1 and 1."""
    return f"samples up to {peak:.3g}; audio should lie between -1 and 1" if peak > LOUD_PEAK else None


def resampled(samples: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """(N,) samples at another rate, by torchaudio's windowed sinc.

    That makes a filter for each phase of the rates, which for 44,101 -> 16,000 Hz would take 5 GB: rates that share no
    large divisor go through scipy's polyphase filter.

    Raises:
        ValueError: a rate is not from 1,000 to 768,000 Hz.
    """
    import torch
    from torchaudio.functional import resample

    if not all(RATES[0] <= rate <= RATES[1] for rate in (from_rate, to_rate)):
        raise ValueError(f"Cannot resample {from_rate} Hz to {to_rate} Hz: {RATES[0]} to {RATES[1]} Hz are allowed.")
    divisor = math.gcd(from_rate, to_rate)
    up, down = to_rate // divisor, from_rate // divisor
    if up * max(up, down) > _LARGEST_KERNEL:
        from scipy.signal import resample_poly

        return torch.from_numpy(resample_poly(samples.numpy(), up, down).astype(np.float32))
    wave: Tensor = resample(samples, from_rate, to_rate)
    return wave


@contextmanager
def opened(path: str | PathLike[str]) -> Iterator[soundfile.SoundFile]:
    """A checked, non-empty audio file; whatever libsndfile says about it becomes an `AudioError`."""
    path = Path(path)
    if "\0" in str(path) or any("\ud800" <= letter <= "\udfff" for letter in str(path)):  # lone surrogates: no text
        raise AudioError(path, "the file's name is not UTF-8 text. Rename it.")
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would wait for a writer, a device never end
            kind = "a folder, not an audio file" if path.is_dir() else "not a regular file"
            raise AudioError(path, f"this is {kind}.")
        with path.open("rb", buffering=0) as raw:  # libsndfile goes on where this stands
            if container := container_kind(raw.read(HEAD)):
                with open_decoded(path, container) as decoded:
                    _check_header(path, decoded)
                    yield decoded
                return
            raw.seek(0)
            completed = _complete(path, raw)
            raw.seek(0)
            with soundfile.SoundFile(completed or raw.fileno(), closefd=False) as file:
                _check_header(path, file)
                yield file
    except FileNotFoundError as error:
        raise AudioError(path, f"no such file{_similar(path)}.") from error
    except Undecodable as error:
        raise AudioError(path, str(error)) from error
    except OSError as error:
        raise AudioError(path, f"cannot be opened: {error.strerror or error}.") from error
    except soundfile.LibsndfileError as error:
        raise AudioError(path, f"not readable as audio, or damaged: {error.error_string.rstrip('.')}.") from error


def _check_header(path: Path, file: soundfile.SoundFile) -> None:
    """Refuse audio without samples, of unknown length, or at a rate that is no rate of speech."""
    if file.frames == 0:
        raise AudioError(path, "the file holds no samples.")
    if file.frames > _MAX_SAMPLES:
        raise AudioError(path, "the header does not say how long the audio is; write it again with ffmpeg.")
    if not RATES[0] <= file.samplerate <= RATES[1]:
        raise AudioError(path, f"the header says {file.samplerate} Hz; {RATES[0]} to {RATES[1]} Hz are read.")


_DECODED: Kept[np.ndarray] = Kept(KEPT_BYTES, lambda samples: int(samples.nbytes))


def _read_mono(file: soundfile.SoundFile, count: int, skip: int = 0) -> np.ndarray:
    """The next `count` samples after `skip`, fewer if the file ends: (N,) float32, the mean over channels."""
    block = max(1, _BLOCK // file.channels)
    while skip and (passed := len(file.read(min(skip, block), dtype="float32"))):
        skip -= passed
    blocks, left = [], count
    while left and len(samples := file.read(min(left, block), dtype="float32", always_2d=True)):  # (n, channels)
        blocks.append(samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1))  # (n,)
        left -= len(samples)
    if len(blocks) > 1:
        return np.concatenate(blocks)  # (N,)
    return np.ascontiguousarray(blocks[0]) if blocks else np.zeros(0, "f4")


def _similar(path: Path) -> str:
    """Why a file may not be found: its name is written otherwise on disk."""
    if "\\" in path.name:
        return "; here / separates folders, not \\"
    other = _names(str(path.parent)).get(_plain(path.name))
    return f"; there is {other!r}: case and Unicode form of a name count" if other else ""


@lru_cache(maxsize=8)
def _names(folder: str) -> dict[str, str]:
    """{name without case and Unicode form: name on disk}."""
    try:
        return {_plain(name): name for name in os.listdir(folder)}
    except OSError:
        return {}


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def _complete(path: Path, raw: FileIO) -> io.BytesIO | None:
    """Refuse an empty file, and a wav or aiff whose sample chunk does not have the length that its header claims.

    Returns:
        the file with its length in the header, for a wav that claims 0 bytes before its samples, as a recorder that
        lost power or a pipe leaves it; None for all others, which are read as they are.
    """
    size = path.stat().st_size
    if size == 0:
        raise AudioError(path, "the file is empty (0 bytes).")
    kind = raw.read(12)[:4]
    order, sample_chunk = _SAMPLE_CHUNKS.get(kind, ("", b""))
    for _ in range(_MAX_CHUNKS if order else 0):
        header = raw.read(8)
        if len(header) < 8:
            return None
        (claimed,) = struct.unpack(order, header[4:])
        begin = raw.tell()
        present = size - begin
        if header[:4] == sample_chunk:
            if present < claimed < _STREAMED_BYTES:
                raise AudioError(path, f"truncated: the header claims {claimed} bytes of audio, {present} are there.")
            behind = present - claimed - claimed % 2
            if behind > claimed and not _are_chunks(raw, order, begin + claimed + claimed % 2, size):
                if claimed or kind == b"FORM" or size > _STREAMED_BYTES:
                    raise AudioError(
                        path,
                        f"the header claims {claimed} bytes of audio, and {behind} more lie behind. Convert it again.",
                    )
                raw.seek(0)
                content = bytearray(raw.read())
                struct.pack_into(order, content, 4, size - 8)
                struct.pack_into(order, content, begin - 4, present)
                return io.BytesIO(content)
            return None
        raw.seek(claimed + claimed % 2, 1)
    return None


def _are_chunks(raw: FileIO, order: str, begin: int, size: int) -> bool:
    """Whether chunks lie from `begin` to the end of the file, and not samples."""
    while begin < size - 1:
        raw.seek(begin)
        header = raw.read(8)
        if len(header) < 8 or not all(0x20 <= letter < 0x7F for letter in header[:4]):
            return False
        (claimed,) = struct.unpack(order, header[4:])
        begin += 8 + claimed + claimed % 2
    return begin <= size + 1


def span_samples(
    path: str | PathLike[str], num_samples: int, rate: int, start: float | None, end: float | None
) -> tuple[int, int]:
    """A span in seconds as its first sample and the one after its last, at most `num_samples`.

    Args:
        path: the file, for the message.
        num_samples: of the file, in each channel.
        rate: Hz.
        start: seconds; None = the beginning.
        end: seconds, which may be `SPAN_SLACK_S` behind the end of the file; None = its end.

    Raises:
        AudioError: the span is empty, or outside the file.
    """

    def sample(seconds: float) -> int:  # a time beyond any file is one that is too large, not an overflow
        return round(min(max(seconds * rate, -1.0), float(2 * _MAX_SAMPLES)))

    first = 0 if start is None else sample(start)
    last = num_samples if end is None else sample(end)
    if not 0 <= first < num_samples or not first < last <= num_samples + SPAN_SLACK_S * rate:
        span = f"{0.0 if start is None else start:g} to {num_samples / rate if end is None else end:g} s"
        raise AudioError(path, f"the span {span} is empty or outside the file, which lasts {num_samples / rate:g} s.")
    return first, min(last, num_samples)
