"""What the two sides of a split share but should not: speakers, audio, sentences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from undertone.corpora import corpus_names, load_corpus
from undertone.corpora.manifest import FILE_NAME, Manifest, listed, sentence_key
from undertone.corpora.prepare import prepare


@dataclass(frozen=True)
class Shared:
    """What both sides share of one kind.

    Attributes:
        kind: `speaker`, `recording` or `sentence`.
        names: the shared ones; of recordings, `id of train = id of test`.
        num_train: utterances of the training side that have one of them.
        num_test: utterances of the test side.
    """

    kind: str
    names: tuple[str, ...]
    num_train: int
    num_test: int

    def __str__(self) -> str:
        """`2 shared speakers, in 40 utterances of train and 12 of test: 03, 08`."""
        count = f"{len(self.names)} shared {self.kind}{'s' * (len(self.names) > 1)}"
        return f"{count}, in {self.num_train} utterances of train and {self.num_test} of test: {listed(self.names)}"


def read_side(path: str, progress: Callable[[int, int], None] | None = None) -> Manifest:
    """The manifest of one side: what `undertone prepare` wrote, or made from a table or another corpus."""
    if (Path(path) / FILE_NAME).is_file():
        return Manifest.load(path)
    return prepare(load_corpus(path), None, progress=progress).manifest


def check_split(train: Manifest, test: Manifest) -> tuple[list[Shared], list[str]]:
    """Compare the two sides of a split.

    Speakers of a built-in corpus are compared as corpus and label, those of other data by their label. Recordings are
    the same if their decoded samples and rates are; sentences if their letters and digits are, in any case.

    Returns:
        what is shared, by kind; and sentences about what could not be compared, because labels are missing.
    """
    shared, notes = [], []
    for kind in ("speaker", "recording", "sentence"):
        ours, theirs = _keys(train, kind), _keys(test, kind)
        for side, keys in (("train", ours), ("test", theirs)):
            if missing := keys.count(None):
                notes.append(
                    f"{missing} of {len(keys)} utterances of {side} have no {kind} and are not compared by it."
                )
        if both := set(ours) & set(theirs) - {None}:
            names = [str(key) for key in both]
            if kind == "recording":  # named by the first utterance of each side that has it
                names = [f"{train.ids[ours.index(key)]} = {test.ids[theirs.index(key)]}" for key in both]
            counts = (sum(key in both for key in keys) for keys in (ours, theirs))
            shared.append(Shared(kind, tuple(sorted(names)), *counts))
    return shared, notes


def _keys(manifest: Manifest, kind: str) -> list[str | None]:
    """One key per utterance, None without a label; utterances with the same key are the same in that respect."""
    if kind == "recording":
        return [audio or None for audio in manifest.column("audio_hash")]
    if kind == "sentence":
        return [sentence_key(text) or None for text in manifest.column("text")]
    known = set(corpus_names())
    pairs = zip(manifest.column("corpus"), manifest.column("speaker"), strict=True)
    return [f"{corpus}/{speaker}" if corpus in known and speaker else speaker for corpus, speaker in pairs]
