"""Speech without labels that a ladder hears beside the corpus."""

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
    """What `unlabelled=NAME` stands for: a folder of sound files, or anything that `load_corpus` takes.

    Raises:
        ValueError: there is no such folder or corpus.
    """
    folder = Path(name).expanduser()
    if folder.is_dir() and not (folder / FILE_NAME).is_file():
        return AudioFolder(folder)
    return load_corpus(name)


def without_labels(manifest: Manifest, unlabelled: Manifest) -> tuple[Utterance, ...]:
    """Utterances that have a sound, an id of their own, and no label; those of the corpus' very sounds are left out.

    Args:
        manifest: of the corpus.
        unlabelled: what is to be heard beside it; its labels, if it has any, are dropped here.

    Raises:
        ValueError: nothing is left.
    """
    known = set(manifest.column("audio_hash"))
    kept = ("path", "start", "end", "duration", "audio_hash", "size", "mtime_ns")
    rows = [
        {"id": f"unlabelled/{item.id}"} | {name: getattr(item, name) for name in kept}
        for item in unlabelled
        if item.audio_hash not in known
    ]
    if not rows:
        raise ValueError("The unlabelled speech has no sound that the corpus has not. Give another folder.")
    return tuple(Manifest.from_rows("unlabelled", rows))


def joined(manifest: Manifest, unlabelled: Sequence[Utterance]) -> Manifest:
    """One manifest of both, for what only looks at sound."""
    rows: list[dict[str, Any]] = [dict(vars(item)) for item in (*manifest, *unlabelled)]
    return Manifest.from_rows("joined", rows)


class UnlabelledStream:
    """Utterances without labels in an order of their own, pass after pass, as many at an update as the batch has.

    What an update hears depends on the seed and its number alone, so that a resumed training hears the same.

    Args:
        utterances: what there is.
        batch_size: utterances an update, over all processes and micro-batches; all of them where there are fewer.
        seed: decides the order.
    """

    def __init__(self, utterances: Sequence[Utterance], batch_size: int, seed: int) -> None:
        self.utterances, self.batch_size, self.seed = utterances, min(batch_size, len(utterances)), seed
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def __call__(self, step: int, piece: int = 0, num_pieces: int = 1) -> list[Utterance]:
        """What a part of an update hears.

        Args:
            step: updates done before.
            piece: which of the parts, of all processes and micro-batches.
            num_pieces: how many there are; a part may be empty.
        """
        first, count = step * self.batch_size, len(self.utterances)
        places = range(first, first + self.batch_size)[piece::num_pieces]
        return [self.utterances[self._order(place // count)[place % count]] for place in places]

    def _draw_order(self, cycle: int) -> list[int]:
        generator = torch.Generator().manual_seed(draw(self.seed, "unlabelled", cycle))
        return torch.randperm(len(self.utterances), generator=generator).tolist()
