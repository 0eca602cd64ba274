"""Hidden states for the trainer, which never sees a waveform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch

from undertone.upstream.types import HiddenStates

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance
    from undertone.upstream.store import Store


class Source(Protocol):
    """Where the trainer gets hidden states from."""

    def __call__(self, utterances: Sequence[Utterance]) -> HiddenStates:
        """(B, L, T, D) float32 states of the utterances, in their order, padded to the longest."""


class StoreSource:
    """Hidden states read from a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, utterances: Sequence[Utterance]) -> HiddenStates:
        """(B, L, T, D) float32; T is 1 where the store holds means."""
        states = [self.store.get(str(utterance.audio_hash)) for utterance in utterances]
        return HiddenStates.collate([state.to(torch.float32) for state in states])
