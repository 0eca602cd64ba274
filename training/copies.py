"""Changed copies of training utterances, for a head that is fitted once and cannot be given what changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from accelerate import Accelerator
from torch import Tensor

from undertone.training.augmenter import Augmenter, augmenter_of
from undertone.upstream.types import HiddenStates

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance
    from undertone.training.run import Run

Heard = dict[tuple[int, int, str], Tensor]  # (seed, number, utterance id) -> (L, T, D); T is 1 where means do


class CopySource:
    """Hidden states (B, L, T, D) float32 of the copies with one number; a process hears each once a run.

    Args:
        augmenter: makes them; copy `number` is what it makes of an utterance at step `number`.
        number: from 1.
        heard: what was heard before; what is new is added.
    """

    jitter: ClassVar[float] = 0.0

    def __init__(self, augmenter: Augmenter, number: int, heard: Heard) -> None:
        self.augmenter, self.number, self.heard = augmenter, number, heard

    def __call__(self, utterances: Sequence[Utterance]) -> HiddenStates:
        """Change and hear what is new, and look up the rest."""
        keys = [(self.augmenter.seed, self.number, utterance.id) for utterance in utterances]
        new = [utterance for key, utterance in zip(keys, utterances, strict=True) if key not in self.heard]
        if new:
            batch: Any = self.augmenter(new, self.number)[0]
            for utterance, states, length in zip(new, batch.states, batch.lengths.tolist(), strict=True):
                self.heard[self.augmenter.seed, self.number, utterance.id] = states[:, :length].cpu()
        return HiddenStates.collate([self.heard[key] for key in keys])


def copies_of(run: Run, accelerator: Accelerator) -> list[CopySource]:
    """As many sources as the run's config asks for copies; none where augmentation is off."""
    augmenter = augmenter_of(run, accelerator)
    if augmenter is None:
        return []
    return [CopySource(augmenter, number, run.copies) for number in range(1, run.config.augment.copies + 1)]
