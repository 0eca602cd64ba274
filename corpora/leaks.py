"""What a fold is, and the check that refuses one that leaks: no utterance and no speaker on two sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from undertone.corpora.manifest import Manifest

_MOST_WARNINGS = 5  # a fold, of audio that is on both sides

Speaker = tuple[str, str]
"""(corpus, speaker): `01` of one corpus is not `01` of another."""


class LeakError(ValueError):
    """A fold would be tested, or tuned, on what it was trained on."""


@dataclass(frozen=True)
class Fold:
    """One train / dev / test triple.

    Attributes:
        name: unique in its protocol: the speaker, the session, `group1`, `split`, `part1`.
        train: utterance ids.
        dev: utterance ids; for every choice.
        test: utterance ids; for the score alone.
        dev_shares_speakers: dev was taken from the training speakers' utterances, for want of speakers.
        speaker_independent: claims that no test speaker is in train or dev; `check_folds` refuses a false claim.
    """

    name: str
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    dev_shares_speakers: bool = False
    speaker_independent: bool = True

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """The ids by part."""
        return {"train": self.train, "dev": self.dev, "test": self.test}


def check_folds(folds: Sequence[Fold], manifest: Manifest, allow_leak: bool = False) -> list[str]:
    """Refuse folds that leak; every run calls this before it trains.

    Args:
        folds: from `make_folds`, a corpus' `folds`, or by hand.
        manifest: what they divide.
        allow_leak: shared speakers become warnings; use `mark_leaks` then, so that the results say so.

    Returns:
        Warnings: shared speakers that were allowed, and audio that is in train or dev and in test under two ids;
        `mark_leaks` withdraws the claim of independence for both.

    Raises:
        LeakError: parts share an utterance, or speakers where the fold claims that they do not; names them.
        ValueError: a part is empty or names an utterance that the manifest has not.
    """
    index = SpeakerIndex(manifest)
    warnings = []
    for fold in folds:
        _check_parts(fold, index)
        for one, other, speakers in shared_speakers(fold, index):
            if not fold.speaker_independent:
                continue  # it says so itself
            message = f"Fold {fold.name!r}: {one} and {other} share {named_speakers(speakers)}."
            if not allow_leak:
                raise LeakError(
                    f"{message} Its scores would not hold for new speakers. Divide by speaker (protocol=speaker or "
                    f"groups), or allow the leak (allow_leak=true): every table will then say speaker-dependent."
                )
            warnings.append(message)
        warnings += _shared_audio(fold, index)
    return warnings


def mark_leaks(folds: Sequence[Fold], manifest: Manifest) -> list[Fold]:
    """The same folds, labelled speaker-dependent where their parts share speakers, or audio under two names."""
    index = SpeakerIndex(manifest)
    return [
        replace(fold, speaker_independent=False) if shared_speakers(fold, index) or _shared_audio(fold, index) else fold
        for fold in folds
    ]


class SpeakerIndex:
    """The columns that folds are made from, by id."""

    def __init__(self, manifest: Manifest) -> None:
        self.ids = manifest.ids
        self.corpus = self._column(manifest, "corpus")
        self.speaker = self._in_corpus(manifest, "speaker")
        self.session = self._in_corpus(manifest, "session")
        self.gender = self._column(manifest, "gender")
        self.emotion = self._column(manifest, "emotion")
        self.split = self._column(manifest, "split")
        self.audio_hash = self._column(manifest, "audio_hash")
        self.overlap = self._column(manifest, "overlap")

    def _column(self, manifest: Manifest, name: str) -> dict[str, str | None]:
        return dict(zip(self.ids, manifest.column(name), strict=True))

    def _in_corpus(self, manifest: Manifest, name: str) -> dict[str, tuple[str, str] | None]:
        """(corpus, label) of each utterance: `01` of one corpus is not `01` of another."""
        labels = self._column(manifest, name)
        return {key: None if label is None else (str(self.corpus[key]), label) for key, label in labels.items()}

    def speakers_of(self, ids: Iterable[str]) -> set[Speaker]:
        """The known speakers of these utterances."""
        return {speaker for name in ids if (speaker := self.speaker[name]) is not None}

    def by_speaker(self, ids: Iterable[str]) -> dict[Speaker, list[str]]:
        """Utterances of each known speaker, speakers in sorted order."""
        units = defaultdict(list)
        for name in ids:
            if (speaker := self.speaker[name]) is not None:
                units[speaker].append(name)
        return {speaker: units[speaker] for speaker in sorted(units)}


def _check_parts(fold: Fold, index: SpeakerIndex) -> None:
    for part, ids in fold.parts.items():
        unknown = [name for name in ids if name not in index.speaker]
        if unknown:
            raise ValueError(f"Fold {fold.name!r}: {part} names utterances the manifest has not: {listed(unknown)}.")
        if not ids:
            raise ValueError(f"Fold {fold.name!r} has no {part} utterances; it needs more data, or fewer folds.")
    for one, other in combinations(fold.parts, 2):
        shared = sorted(set(fold.parts[one]) & set(fold.parts[other]))
        if shared:
            raise LeakError(f"Fold {fold.name!r}: {one} and {other} share {len(shared)} utterances: {listed(shared)}.")


def shared_speakers(fold: Fold, index: SpeakerIndex) -> list[tuple[str, str, list[Speaker]]]:
    """(part, part, known speakers of both), but for a dev part that says it shares the training speakers."""
    leaks = []
    for one, other in combinations(fold.parts, 2):
        shared = index.speakers_of(fold.parts[one]) & index.speakers_of(fold.parts[other])
        if shared and not (fold.dev_shares_speakers and (one, other) == ("train", "dev")):
            leaks.append((one, other, sorted(shared)))
    return leaks


def _shared_audio(fold: Fold, index: SpeakerIndex) -> list[str]:
    """A warning for each test utterance whose samples, or a stretch of them, train or choose under another id."""
    warnings = []
    trained = [(name, index.audio_hash[name], index.overlap[name]) for name in (*fold.train, *fold.dev)]
    same, parts = {sound: name for name, sound, _ in trained}, {group: name for name, _, group in trained}
    for name in fold.test:
        sound, group = index.audio_hash[name], index.overlap[name]
        if sound and (other := same.get(sound)):
            warnings.append(f"Fold {fold.name!r}: {name} (test) and {other} (train or dev) hold the same sound.")
        elif group and (other := parts.get(group)):
            warnings.append(f"Fold {fold.name!r}: {name} (test) overlaps {other} (train or dev) in audio.")
    if len(warnings) > _MOST_WARNINGS:
        rest = len(warnings) - _MOST_WARNINGS
        warnings = [*warnings[:_MOST_WARNINGS], f"Fold {fold.name!r}: so do {rest} more of its test utterances."]
    return warnings


def named_speakers(speakers: Iterable[Speaker]) -> str:
    """`2 speakers: emodb/03, emodb/08`."""
    names = [f"{corpus}/{speaker}" for corpus, speaker in speakers]
    return f"{len(names)} speaker{'s' * (len(names) > 1)}: {listed(names)}"


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first names, for a message."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
