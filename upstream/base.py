"""The contract of every upstream: audio in, hidden states out."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

from undertone.audio.read import AudioError, read_audio
from undertone.upstream.types import ALONE, HiddenStates, WaveBatch


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
    upstream: Upstream, path: str | PathLike[str], start: float | None = None, end: float | None = None
) -> Tensor | AudioError:
    """(N,) samples at the upstream's rate; what cannot be read, or is longer than it takes, is an error returned."""
    try:
        wave = read_audio(path, upstream.sample_rate, start, end)
    except AudioError as error:
        return error
    except MemoryError:
        return AudioError(path, "the memory does not hold the decoded file. Cut it into shorter ones.")
    seconds, limit = len(wave) / upstream.sample_rate, upstream.max_seconds
    return wave if seconds <= limit else AudioError(path, f"{upstream.name} {too_long(seconds, limit)}")
