"""Where training batches come from: hidden states of the store, or audio for an upstream that is trained or run.

The trainer itself never looks into a batch; the module that it trains takes what the source gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import psutil
import torch
from torch import Tensor

from undertone.audio.read import read_audio
from undertone.upstream.base import Upstream, with_pictures
from undertone.upstream.precision import check_precision, in_precision
from undertone.upstream.types import HiddenStates, StoredStates, StreamBatch, WaveBatch

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance
    from undertone.upstream.store.store import Store


class Source(Protocol):
    """Where batches come from."""

    @property
    def jitter(self) -> float:
        """How freely utterances of unlike length share a batch (see `epoch_batches`)."""

    def __call__(self, utterances: Sequence[Utterance]) -> HiddenStates | WaveBatch | StreamBatch:
        """The batch of the utterances, in their order, padded to the longest."""


class StoreSource:
    """Hidden states (B, L, T, D) of a store, in their stored dtype; T is 1 where it holds means.

    States that were read stay in memory, as they are stored, until the allowance is used up; the rest is read every
    time.
    """

    jitter: ClassVar[float] = 0.3  # padding frames cost little here, mixing helps

    def __init__(
        self,
        store: Store,  # holds all that will be asked for
        allowance: int | None = None,  # bytes of memory on `device`; None: half of what is free there
        device: torch.device | str = "cpu",  # where states are kept and batches are made
        layer: int | None = None,  # the only one to read, so that L is 1; None: all of them
    ) -> None:
        self.store, self.device, self.layer = store, torch.device(device), layer
        self.room = _free_memory(self.device) // 2 if allowance is None else allowance
        self.held: dict[str, Tensor] = {}

    def __call__(self, utterances: Sequence[Utterance]) -> HiddenStates:
        """Read."""
        return StoredStates(self._states(self.store.key(item)) for item in utterances)

    def hold(self, utterances: Sequence[Utterance]) -> Iterator[int]:
        """Read the states of these now, until the allowance is used up; how many were read, one by one."""
        keys = [self.store.key(item) for item in utterances]
        for number, place in enumerate(self.store.by_shard(keys), 1):
            self._states(keys[place])
            if keys[place] not in self.held:
                return
            yield number

    def _states(self, key: str) -> Tensor:
        if key in self.held:
            return self.held[key]
        states = self.store.get(key)  # (L, T, D)
        if self.layer is not None:
            states = states[self.layer : self.layer + 1]  # (1, T, D)
        if states.nbytes > self.room:
            return states.to(self.device)
        self.room -= states.nbytes
        self.held[key] = states.to(self.device, copy=True)  # the store gives a view of a mapped file
        return self.held[key]

    def of_layer(self, layer: int) -> StoreSource:
        """A source of this layer alone, with the same store and what is left of the allowance."""
        return StoreSource(self.store, self.room, self.device, layer)

    def can_hold(self, utterances: Sequence[Utterance]) -> bool:
        """Whether `means` of these fit into the allowance."""
        states = self.store.get(self.store.key(utterances[0]))
        return states.numel() * torch.float32.itemsize * len(utterances) <= self.room

    def means(self, utterances: Sequence[Utterance]) -> Tensor:
        """(L, N, D) float32, of a store of means."""
        keys = [self.store.key(item) for item in utterances]
        num_layers, _, size = self.store.get(keys[0]).shape
        found = torch.empty(num_layers, len(keys), size)
        for row in self.store.by_shard(keys):
            found[:, row] = self.store.get(keys[row])[:, 0]  # (L, D)
        return found.to(self.device)


def _free_memory(device: torch.device) -> int:
    """Bytes."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


class WaveSource:
    """Audio (B, N) read from the files, for an upstream that is trained; with pictures, if it `sees`."""

    jitter: ClassVar[float] = 0.03  # every padding sample goes through the upstream

    def __init__(self, sample_rate: int, sees: bool = False) -> None:
        self.sample_rate, self.sees = sample_rate, sees

    def __call__(self, utterances: Sequence[Utterance]) -> WaveBatch:
        """Read, resample and pad."""
        waves = [read_audio(item.path, self.sample_rate, item.start, item.end) for item in utterances]
        return batch_of(waves, utterances, self.sample_rate, self.sees)


def batch_of(waves: Sequence[Tensor], utterances: Sequence[Utterance], sample_rate: int, sees: bool) -> WaveBatch:
    """(N_i,) samples that were read of utterances, padded; with the pictures of their videos for what `sees`."""
    if not sees:
        return WaveBatch.collate(waves, sample_rate)
    clips = [
        with_pictures(wave, sample_rate, item.path, item.start, item.video, item.boxes)
        for wave, item in zip(waves, utterances, strict=True)
    ]
    return WaveBatch.collate(clips, sample_rate)


class RecomputeSource:
    """Hidden states (B, L, T, D) float32 that a frozen upstream computes for every batch; nothing is stored.

    Args:
        upstream: one, or several streams; on the device of the training; put in eval mode.
        mean: give means over the frames, (B, L, 1, D).
        precision: of its arithmetic: `no`, `bf16`, `fp16` or `int8`.
    """

    jitter: ClassVar[float] = WaveSource.jitter

    def __init__(self, upstream: Upstream, mean: bool = False, precision: str = "no") -> None:
        self.upstream, self.mean, self.precision = upstream.eval(), mean, precision
        self.waves = WaveSource(upstream.sample_rate, upstream.sees)
        self.device = next(upstream.parameters(), torch.empty(0)).device
        check_precision(upstream, self.device, precision)

    def __call__(self, utterances: Sequence[Utterance]) -> HiddenStates | StreamBatch:
        """Read, resample, pad, and run the upstream."""
        return self.compute(self.waves(utterances))

    def compute(self, batch: WaveBatch) -> HiddenStates | StreamBatch:
        """Run the upstream."""
        with torch.no_grad():
            with in_precision(self.upstream, self.device, self.precision):
                hidden: HiddenStates | StreamBatch = self.upstream(batch.to(self.device))
            hidden = hidden.to(self.device, torch.float32)
            return hidden.means() if self.mean else hidden


class StreamsSource:
    """A batch of every stream: hidden states of a frozen upstream, audio for one that learns, which is read once.

    Args:
        parts: {stream: its source}.
    """

    def __init__(self, parts: Mapping[str, Source]) -> None:
        self.parts = dict(parts)
        self.jitter = min(part.jitter for part in parts.values())
        stores = [part for part in self.parts.values() if isinstance(part, StoreSource)]
        for store in stores:
            store.room //= len(stores)

    def __call__(self, utterances: Sequence[Utterance]) -> StreamBatch:
        """Ask each source."""
        waves = [part for part in self.parts.values() if isinstance(part, WaveSource)]
        audio = max(waves, key=lambda part: part.sees)(utterances) if waves else None
        found: dict[str, Any] = {}
        for name, part in self.parts.items():
            found[name] = audio if isinstance(part, WaveSource) else part(utterances)
        return StreamBatch(found)
