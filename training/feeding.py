"""What the trainer is fed: hidden states from the store, or sound for an upstream that learns.

The trainer itself never looks into a batch; the module it trains takes what the source gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

from undertone.audio.read import read_audio
from undertone.upstream.types import HiddenStates, WaveBatch

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance
    from undertone.upstream.store import Store


class Source(Protocol):
    """Where batches come from.

    Attributes:
        jitter: how freely utterances of unlike length share a batch (see `epoch_batches`).
    """

    jitter: ClassVar[float]

    def __call__(self, utterances: Sequence[Utterance]) -> HiddenStates | WaveBatch:
        """The batch of the utterances, in their order, padded to the longest."""


class StoreSource:
    """Hidden states (B, L, T, D) float32 read from a store; T is 1 where the store holds means."""

    jitter: ClassVar[float] = 0.3  # padding frames cost little here, mixing helps

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, utterances: Sequence[Utterance]) -> HiddenStates:
        """Read and pad."""
        states = [self.store.get(str(utterance.audio_hash)) for utterance in utterances]
        return HiddenStates.collate([state.to(torch.float32) for state in states])


class WaveSource:
    """Sound (B, N) read from the files, for an upstream that learns."""

    jitter: ClassVar[float] = 0.03  # every padding sample goes through the upstream

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate

    def __call__(self, utterances: Sequence[Utterance]) -> WaveBatch:
        """Read, resample and pad."""
        waves = [read_audio(item.path, self.sample_rate, item.start, item.end) for item in utterances]
        return WaveBatch.collate(waves, self.sample_rate)
