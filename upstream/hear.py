"""A sound file as an upstream hears it, or why it cannot."""

from __future__ import annotations

from os import PathLike

from torch import Tensor

from undertone.audio.read import AudioError, read_audio
from undertone.upstream.base import Upstream, too_long


def hear(
    upstream: Upstream, path: str | PathLike[str], start: float | None = None, end: float | None = None
) -> Tensor | AudioError:
    """(N,) samples at the upstream's rate; what cannot be read, or is longer than it takes, is an error returned."""
    try:
        wave = read_audio(path, upstream.sample_rate, start, end)
    except AudioError as error:
        return error
    seconds, limit = len(wave) / upstream.sample_rate, upstream.max_seconds
    return wave if seconds <= limit else AudioError(path, f"{upstream.name} {too_long(seconds, limit)}")
