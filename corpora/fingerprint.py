"""The fingerprint of a split, by which two papers can say that they used the same folds.

An utterance is known by the SHA-256 of its decoded samples and their rate (`Utterance.audio_hash`), so that neither
names nor labels nor the file format change a fingerprint. A fold is the SHA-256 of one line `PART HASH` for each
utterance, sorted, PART being train, dev or test; a split that of its folds' hex digests, sorted, a line each. Lines end
with a newline, and the first 16 hex digits are shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest

DIGITS = 16


def split_fingerprint(folds: Sequence[Fold], manifest: Manifest) -> str:
    """16 hex digits of the membership of all folds; "" where the audio of an utterance was not read."""
    audio = manifest.speaker_index.audio_hash
    return fingerprint_of({part: audio.of(ids) for part, ids in fold.parts.items()} for fold in folds)


def fingerprint_of(folds: Iterable[Mapping[str, Sequence[str]]]) -> str:
    """The same from {part: hashes of the audio} of each fold."""
    digests = []
    for parts in folds:
        if not all(audio for hashes in parts.values() for audio in hashes):
            return ""
        digests.append(_hash(f"{part} {audio}" for part, hashes in parts.items() for audio in hashes))
    return _hash(digests)[:DIGITS]


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(lines)).encode()).hexdigest()
