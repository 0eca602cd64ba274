"""Unlabelled speech for a ladder, in addition to the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from undertone.corpora import load_corpus
from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import FILE_NAME, Manifest
from undertone.corpora.own.audio_folder import AudioFolder
from undertone.training.seeding import draw

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance


def unlabelled_corpus(name: str) -> Corpus:
    """What `unlabelled=NAME` stands for: a folder of audio files, or anything that `load_corpus` takes."""
    folder = Path(name).expanduser()
    if folder.is_dir() and not (folder / FILE_NAME).is_file():
        return AudioFolder(folder)
    return load_corpus(name)


def without_labels(manifest: Manifest, unlabelled: Manifest) -> tuple[Utterance, ...]:
    """The unlabelled utterances whose audio is not in the corpus, `manifest`, with new ids and without any label."""
    known = set(manifest.column("audio_hash"))
    kept = ("path", "start", "end", "duration", "audio_hash", "size", "mtime_ns")
    rows = [
        {"id": f"unlabelled/{item.id}"} | {name: getattr(item, name) for name in kept}
        for item in unlabelled
        if item.audio_hash not in known
    ]
    if not rows:
        raise ValueError("All of the unlabelled audio is in the corpus already. Give another folder.")
    return tuple(Manifest.from_rows("unlabelled", rows))


def joined(manifest: Manifest, unlabelled: Sequence[Utterance]) -> Manifest:
    """One manifest of both, for steps that use only the audio."""
    rows: list[dict[str, Any]] = [dict(vars(item)) for item in (*manifest, *unlabelled)]
    return Manifest.from_rows("joined", rows)


class UnlabelledStream:
    """Unlabelled batches: the utterances in random order, pass after pass.

    The batch of an update depends only on the seed and the update's number, so a resumed training gets the same.

    Args:
        utterances: without labels.
        batch_size: utterances per update, over all processes and micro-batches; all of them where there are fewer.
        seed: decides the order.
    """

    def __init__(self, utterances: Sequence[Utterance], batch_size: int, seed: int) -> None:
        self.utterances, self.batch_size, self.seed = utterances, min(batch_size, len(utterances)), seed
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def __call__(self, step: int, part: int = 0, num_parts: int = 1) -> list[Utterance]:
        """The unlabelled utterances of a part of an update.

        Args:
            step: updates done before.
            part: which of the parts, of all processes and micro-batches.
            num_parts: how many there are; a part may be empty.
        """
        first, count = step * self.batch_size, len(self.utterances)
        places = range(first, first + self.batch_size)[part::num_parts]
        return [self.utterances[self._order(place // count)[place % count]] for place in places]

    def _draw_order(self, cycle: int) -> list[int]:
        generator = torch.Generator().manual_seed(draw(self.seed, "unlabelled", cycle))
        return torch.randperm(len(self.utterances), generator=generator).tolist()
