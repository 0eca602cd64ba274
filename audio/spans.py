"""Many spans of one long file, read once and in bounded memory; each has the samples of `read_samples`, to the bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike

import numpy as np
import soundfile

from undertone.audio.read import AudioError, opened

_BLOCK = 2**20  # values read at once, 4 MB


@dataclass(frozen=True)
class Span:
    """A stretch of a file.

    Attributes:
        first: index of its first sample.
        last: index after its last one.
        speaker: who speaks, None = not known.
    """

    first: int
    last: int
    speaker: str | None = None


def windows(span: Span, window: int, hop: int) -> Iterator[Span]:
    """Windows of a span, in samples: one every `hop`, the first at its start; the one that reaches its end is the last.

    That one is cut there, so that none is shorter than `window - hop`, unless the span is.
    """
    first = span.first
    while True:
        last = min(first + window, span.last)
        yield Span(first, last, span.speaker)
        if last == span.last:
            return
        first += hop


def read_spans(
    path: str | PathLike[str], spans: Iterable[Span], split: bool = False
) -> Iterator[tuple[Span, np.ndarray | AudioError]]:
    """Each span with its samples, or with why it has none.

    The file is decoded from its start, block by block, and what lies before the next span is dropped: the memory holds
    the longest span, whatever the file's length.

    Args:
        path: a file that libsndfile reads.
        spans: in the order of `first`, within the file.
        split: keep the channels apart instead of averaging them.

    Yields:
        the span and (C, n) float32 samples, C = 1 unless `split`. Where a sample of the span is not finite, or where
        decoding stops before its end, an `AudioError`.

    Raises:
        AudioError: as `audio_info`.
    """
    with opened(path) as file:
        file.seekable = lambda: False  # soundfile seeks after each read, after which MP3 decodes other samples
        rows = file.channels if split else 1
        kept, begin = np.zeros((rows, 0), np.float32), 0  # (C, n) from sample `begin` on
        for span in spans:
            begin, kept = _dropped(begin, kept, span.first)
            blocks, end = [kept], begin + kept.shape[1]
            while end < span.last:
                block = _block(file, min(span.last - end, max(1, _BLOCK // file.channels)), split)  # (C, n)
                if not block.shape[1]:
                    break
                end += block.shape[1]
                if end <= span.first:  # a gap between spans
                    begin, blocks = end, [blocks[0][:, :0]]
                    continue
                blocks.append(block)
            kept = np.concatenate(blocks, axis=1) if len(blocks) > 1 else blocks[0]  # (C, n)
            begin = end - kept.shape[1]
            begin, kept = _dropped(begin, kept, span.first)
            yield span, _checked(path, kept[:, : span.last - span.first].copy(), span)


def _dropped(begin: int, kept: np.ndarray, first: int) -> tuple[int, np.ndarray]:
    """Without the samples before `first`."""
    past = min(max(0, first - begin), kept.shape[1])
    return begin + past, kept[:, past:]


def _block(file: soundfile.SoundFile, count: int, split: bool) -> np.ndarray:
    """The next samples, at most `count`: (C, n)."""
    samples = file.read(count, dtype="float32", always_2d=True)  # (n, channels)
    if not split:
        samples = samples if samples.shape[1] == 1 else samples.mean(axis=1, keepdims=True)  # (n, 1)
    channels: np.ndarray = samples.T  # (C, n)
    return channels


def _checked(path: str | PathLike[str], samples: np.ndarray, span: Span) -> np.ndarray | AudioError:
    if (present := samples.shape[1]) < span.last - span.first:
        return AudioError(path, f"truncated: decoding stopped at sample {span.first + present} of {span.last}.")
    if not (finite := np.isfinite(samples)).all():
        return AudioError(path, f"{np.count_nonzero(~finite)} of {samples.size} samples are NaN or infinite.")
    return samples
