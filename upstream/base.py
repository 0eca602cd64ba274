"""The contract of every upstream: audio in, hidden states out."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor, nn

from undertone.audio.read import AudioError, read_audio
from undertone.audio.video import HOP_S, SIZE, find_video, read_pictures
from undertone.upstream.types import ALONE, AudioVisual, HiddenStates, Wave, WaveBatch


def too_long(seconds: float, max_seconds: float) -> str:
    """What to say of a clip that is longer than an upstream takes."""
    limit = f"at most {max_seconds:g} s"
    return f"takes {limit} at once, got {seconds:.1f} s. Cut it into windows of {limit}."


class Upstream(nn.Module, ABC):
    """Audio -> hidden states; an utterance's states never depend on what shares its batch."""

    name: str  # Hub id, folder, or the name of an acoustic front-end
    options: Mapping[str, Any] = {}  # what its constructor was given, JSON
    sample_rate: int  # Hz that `forward` expects
    num_layers: int  # L, layer 0 included
    hidden_size: int  # D
    max_seconds: float = math.inf  # the longest clip that `forward` takes; infinite for most
    sees: bool = False  # whether `forward` needs the pictures of a video beside the samples
    precision: str = "no"  # what `keep_in_precision` put it in, for predictions; "no": float32
    random_weights: bool = False  # true when the weights were drawn at random and not learned; every table says so

    @property
    def streams(self) -> Mapping[str, Upstream]:
        """{name: upstream} of what it consists of (see `undertone.upstream.streams`): of one alone, itself."""
        return {ALONE: self}

    @abstractmethod
    def forward(self, batch: WaveBatch) -> HiddenStates:
        """(B, N) samples -> (B, L, T, D) hidden states with zeros in the padding frames.

        Raises:
            ValueError: the batch has another sample rate than `sample_rate`, or a clip longer than `max_seconds`.
        """

    @abstractmethod
    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) int64 samples -> (B,) int64 frames that `forward` returns for them."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hex digest of everything that decides the hidden states: weights, settings, library version."""

    def weights_hash(self) -> str:
        """Hex digest of the weights alone, whatever version of a library reads them."""
        return fingerprint({}, self.state_dict())

    def spec(self) -> dict[str, Any]:
        """JSON that `build_upstream` rebuilds this upstream from, without its weights."""
        return {"kind": "class", "name": self.name, "options": dict(self.options)}

    def look_at_nothing(self) -> None:
        """Take every clip for one without video from now on, whether it has one or not."""
        for part in (self, *self.streams.values()):
            part.sees = False

    def check_sample_rate(self, batch: WaveBatch) -> None:
        """Refuse audio at another rate than the upstream was trained on."""
        if batch.sample_rate != self.sample_rate:
            raise ValueError(
                f"Upstream {self.name!r} expects {self.sample_rate} Hz, got {batch.sample_rate} Hz. "
                f"Read the file with read_audio(path, {self.sample_rate}), which resamples."
            )

    def check_length(self, batch: WaveBatch) -> None:
        """Refuse clips that are longer than the upstream takes."""
        if math.isinf(self.max_seconds):
            return
        seconds = int(batch.lengths.max()) / self.sample_rate
        if seconds > self.max_seconds:
            raise ValueError(f"Upstream {self.name!r} {too_long(seconds, self.max_seconds)}")


# ---- One hash for everything that decides hidden states.


def fingerprint(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hex sha256 of settings (JSON) and tensors: names, dtypes, shapes and bytes, whatever their order or device."""
    return _digest(hashlib.sha256(), settings, tensors)


def quick_digest(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hex XXH3 of the same, many times faster: it tells whether anything has changed, and is never stored."""
    return _digest(xxhash.xxh3_128(), settings, tensors)


def _digest(digest: Any, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return str(digest.hexdigest())


# ---- A clip as an upstream takes it, or why it cannot.


def read_clip(
    upstream: Upstream,
    path: str | PathLike[str],
    start: float | None = None,
    end: float | None = None,
    video: str | None = None,
    boxes: str | None = None,
) -> Wave | AudioError:
    """(N,) samples at the upstream's rate, with pictures where it sees; see `with_pictures`.

    What cannot be read, or is longer than it takes, is an error returned.
    """
    try:
        wave = read_audio(path, upstream.sample_rate, start, end)
    except AudioError as error:
        return error
    except MemoryError:
        return AudioError(path, "the memory does not hold the decoded file. Cut it into shorter ones.")
    seconds, limit = len(wave) / upstream.sample_rate, upstream.max_seconds
    if seconds > limit:
        return AudioError(path, f"{upstream.name} {too_long(seconds, limit)}")
    try:
        return with_pictures(wave, upstream.sample_rate, path, start, video, boxes) if upstream.sees else wave
    except AudioError as error:
        return error


def with_pictures(
    wave: Tensor,
    sample_rate: int,
    path: str | PathLike[str],
    start: float | None = None,
    video: str | None = None,
    boxes: str | None = None,
) -> AudioVisual:
    """A wave, and the picture in the middle of each of its frames of 40 ms, from its video if it has one.

    Args:
        wave: (N,) samples.
        sample_rate: Hz.
        path: the file that they were read from.
        start: seconds into it; None = the beginning.
        video: the file with the pictures; None: `path`, where that is a video.
        boxes: a table of faces, see `read_pictures`.

    Raises:
        AudioError: the video cannot be read, or does not last as long.
    """
    file = find_video(path, video)
    if file is None:
        return AudioVisual(wave, None)
    times = (start or 0.0) + HOP_S * (np.arange(num_pictures(len(wave), sample_rate)) + 0.5)
    return AudioVisual(wave, read_pictures(file, times, boxes))


def num_pictures(num_samples: int, sample_rate: int) -> int:
    """Frames of 40 ms of a clip, the last one as long as is left; at least one."""
    return max(1, math.ceil(num_samples / round(HOP_S * sample_rate)))


def with_noise(upstream: Upstream, samples: Tensor) -> WaveBatch:
    """(B, N) samples as a batch to try or to measure an upstream with: where it sees, with pictures of noise."""
    lengths = torch.full((len(samples),), samples.shape[1])
    pictures = None
    if upstream.sees:
        size = (num_pictures(samples.shape[1], upstream.sample_rate), SIZE, SIZE, 3)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(256, size, dtype=torch.uint8, generator=generator)
        pictures = (noise,) * len(samples)
    return WaveBatch(samples, lengths, upstream.sample_rate, pictures)
