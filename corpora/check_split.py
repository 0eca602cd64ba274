"""What the parts of a split share but should not: speakers, audio, sentences; and their sizes and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from undertone.corpora import corpus_names
from undertone.corpora.fingerprint import fingerprint_of
from undertone.corpora.manifest import Manifest, listed, sentence_key


@dataclass(frozen=True)
class Shared:
    """What both sides share of one kind.

    Attributes:
        kind: `speaker`, `recording` or `sentence`.
        names: the shared ones; of recordings, `id of train = id of test`.
        num_train: utterances of the training side that have one of them.
        num_test: utterances of the test side.
        sides: what the two are called.
    """

    kind: str
    names: tuple[str, ...]
    num_train: int
    num_test: int
    sides: tuple[str, str] = ("train", "test")

    def __str__(self) -> str:
        """`2 shared speakers, in 40 utterances of train and 12 of test: 03, 08`."""
        count = f"{len(self.names)} shared {self.kind}{'s' * (len(self.names) > 1)}"
        one, other = self.sides
        return f"{count}, in {self.num_train} utterances of {one} and {self.num_test} of {other}: {listed(self.names)}"


def check_split(
    train: Manifest, test: Manifest, sides: tuple[str, str] = ("train", "test")
) -> tuple[list[Shared], list[str]]:
    """Compare the two sides of a split.

    Speakers of a built-in corpus are compared as corpus and label, those of other data by their label. Recordings are
    the same if their decoded samples and rates are; sentences if their letters and digits are, in any case.

    Returns:
        what is shared, by kind; and sentences about what could not be compared, because labels are missing.
    """
    shared, notes = [], []
    for kind in ("speaker", "recording", "sentence"):
        ours, theirs = _keys(train, kind), _keys(test, kind)
        for side, keys in zip(sides, (ours, theirs), strict=True):
            if missing := keys.count(None):
                notes.append(
                    f"{missing} of {len(keys)} utterances of {side} have no {kind} and are not compared by it."
                )
        if both := set(ours) & set(theirs) - {None}:
            names = [str(key) for key in both]
            if kind == "recording":  # named by the first utterance of each side that has it
                names = [f"{train.ids[ours.index(key)]} = {test.ids[theirs.index(key)]}" for key in both]
            num_train, num_test = (sum(key in both for key in keys) for keys in (ours, theirs))
            shared.append(Shared(kind, tuple(sorted(names)), num_train, num_test, sides))
    return shared, notes


def check_parts(parts: Mapping[str, Manifest]) -> tuple[list[Shared], list[str]]:
    """`check_split` of each two of a fold's parts."""
    found = [check_split(parts[one], parts[other], (one, other)) for one, other in combinations(parts, 2)]
    return [one for shared, _ in found for one in shared], list(
        dict.fromkeys(note for _, notes in found for note in notes)
    )


def fingerprint(folds: Mapping[str, Mapping[str, Manifest]]) -> str:
    """The split fingerprint; "" where audio was not read."""
    return fingerprint_of({part: some.column("audio_hash") for part, some in parts.items()} for parts in folds.values())


def balance_table(folds: Mapping[str, Mapping[str, Manifest]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: utterances, speakers and emotions of each part."""
    counted = [
        (fold, part, some, Counter(str(label) for label in some.column("emotion") if label is not None))
        for fold, parts in folds.items()
        for part, some in parts.items()
    ]
    emotions = sorted({label for *_, counts in counted for label in counts})
    rows = []
    for fold, part, some, counts in counted:
        speakers = len(set(_keys(some, "speaker")) - {None})
        rows.append(
            [*([fold] if len(folds) > 1 else []), part, str(len(some)), str(speakers or "unknown")]
            + [str(counts[label]) for label in emotions]
        )
    return [*(["Fold"] if len(folds) > 1 else []), "Part", "Utterances", "Speakers", *emotions], rows


def _keys(manifest: Manifest, kind: str) -> list[str | None]:
    """One key per utterance, None without a label; utterances with the same key are the same in that respect."""
    if kind == "recording":
        return [audio or None for audio in manifest.column("audio_hash")]
    if kind == "sentence":
        return [sentence_key(text) or None for text in manifest.column("text")]
    known = set(corpus_names())
    pairs = zip(manifest.column("corpus"), manifest.column("speaker"), strict=True)
    return [f"{corpus}/{speaker}" if corpus in known and speaker else speaker for corpus, speaker in pairs]
