"""Several upstreams of one sound side by side, each a stream of hidden states with a name, a shape and a frame rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from undertone.upstream.base import Upstream, fingerprint
from undertone.upstream.types import HiddenStates, StreamBatch, StreamShape, WaveBatch

SECONDS = 10.0  # of the longest clip that is asked for its frames


class Streams(Upstream):
    """Audio -> the hidden states of several upstreams, {stream: (B, L, T, D)}; all of them process the same audio.

    What a batch holds already as hidden states (of a frozen upstream, from a store) goes through as it is.

    Args:
        parts: {stream: upstream}, in the order in which a head gets them; all of one sample rate.
    """

    def __init__(self, parts: Mapping[str, Upstream]) -> None:
        super().__init__()
        for name in parts:
            if hasattr(nn.ModuleDict, name):
                raise ValueError(f"A stream cannot be called {name!r}, which has a meaning in PyTorch. Rename it.")
        rates = {name: part.sample_rate for name, part in parts.items()}
        if len(set(rates.values())) > 1:
            listing = ", ".join(f"{name} {rate} Hz" for name, rate in rates.items())
            raise ValueError(f"Streams share the audio, so their upstreams need one sample rate; got {listing}.")
        self.parts = nn.ModuleDict(parts)
        self.name = "+".join(name if name == part.name else f"{name}={part.name}" for name, part in parts.items())
        self.sample_rate = next(iter(rates.values()))
        self.max_seconds = min(part.max_seconds for part in parts.values())
        self.sees = any(part.sees for part in parts.values())
        self.random_weights = any(part.random_weights for part in parts.values())

    @property
    def streams(self) -> Mapping[str, Upstream]:
        """{name: upstream}, in order."""
        return cast(Mapping[str, Upstream], dict(self.parts.items()))

    def forward(self, batch: WaveBatch | StreamBatch) -> StreamBatch:  # type: ignore[override]
        """(B, N) samples, or a batch with samples for some streams -> {stream: (B, L, T, D)}."""
        given = batch.streams if isinstance(batch, StreamBatch) else dict.fromkeys(self.parts, batch)
        return StreamBatch(
            {name: one if isinstance(one, HiddenStates) else self.parts[name](one) for name, one in given.items()}
        )

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Each stream has its own.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"Each stream of {self.name} has its own frames: ask upstream.streams[NAME].frame_lengths.")

    def fingerprint(self) -> str:
        """Hex digest of the streams' names and fingerprints, in order."""
        return fingerprint({"streams": [[name, part.fingerprint()] for name, part in self.streams.items()]}, {})

    def weights_hash(self) -> str:
        """Hex digest of the streams' names and their weights' digests, in order."""
        return fingerprint({"streams": [[name, part.weights_hash()] for name, part in self.streams.items()]}, {})

    def spec(self) -> dict[str, Any]:
        """JSON that `build_upstream` rebuilds the streams from, without their weights."""
        parts = [{"stream": name, **part.spec()} for name, part in self.streams.items()]
        return {"kind": "streams", "name": self.name, "streams": parts}


def stream_shapes(upstream: Upstream) -> dict[str, StreamShape]:
    """{stream: its shape}; with the times of the frames where there are several."""
    parts = upstream.streams
    return {
        name: StreamShape(part.num_layers, part.hidden_size, *(frame_times(part) if len(parts) > 1 else ()))
        for name, part in parts.items()
    }


def frame_times(upstream: Upstream) -> tuple[float, float]:
    """Seconds between frames, and from the clip's beginning to the middle of the first one, as `frame_lengths` implies.

    The hop is what the frames of `SECONDS` need beyond two, infinite where a clip has one frame whatever its length. A
    first frame is as long as the shortest clip of two frames without the hop, or one hop where frames do not overlap.
    So it is exact for convolutions and windows without padding, and within half a hop for frames that are centred on
    the clip's beginning.

    Raises:
        ValueError: the frames are too far apart to be measured.
    """
    longest = int(min(SECONDS, upstream.max_seconds) * upstream.sample_rate)
    with torch.device("cpu"):  # also where a model is being built without memory
        frames = _count(upstream, longest)
        if frames == 1:
            return math.inf, 0.0
        if frames == 2:
            raise ValueError(
                f"Upstream {upstream.name!r} has 2 frames in {longest / upstream.sample_rate:g} s, too few to say when "
                f"they are. Use it alone."
            )
        two, all_of_them = _shortest(upstream, 2, longest), _shortest(upstream, frames, longest)
    hop = (all_of_them - two) / (frames - 2)  # samples
    return hop / upstream.sample_rate, max(hop, two - hop) / 2 / upstream.sample_rate


def _count(upstream: Upstream, samples: int) -> int:
    return int(upstream.frame_lengths(torch.tensor([samples]))[0])


def _shortest(upstream: Upstream, frames: int, longest: int) -> int:
    """The fewest samples that give this many frames, `longest` at most; few clips are tried, which may be costly."""
    low, high = 0, longest
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _count(upstream, middle) >= frames else (middle, high)
    return high
