"""The split fingerprint: of membership by audio alone, as its docstring defines it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from undertone.corpora.fingerprint import split_fingerprint
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest


def manifest(prefix: str = "", audio: str = "abcd") -> Manifest:
    return Manifest.from_rows(
        "toy", [{"id": f"{prefix}{n}", "path": "x.wav", "audio_hash": letter} for n, letter in enumerate(audio)]
    )


FOLDS = [Fold("one", ("0", "1"), ("2",), ("3",)), Fold("two", ("3", "2"), ("1",), ("0",))]


def test_it_is_what_the_definition_says() -> None:
    digests = []
    for lines in ("dev c\ntest d\ntrain a\ntrain b\n", "dev b\ntest a\ntrain c\ntrain d\n"):
        digests.append(hashlib.sha256(lines.encode()).hexdigest())
    whole = hashlib.sha256("".join(f"{digest}\n" for digest in sorted(digests)).encode()).hexdigest()
    assert split_fingerprint(FOLDS, manifest()) == whole[:16]


def test_names_and_order_do_not_count_but_membership_does() -> None:
    found = split_fingerprint(FOLDS, manifest())
    renamed = [
        Fold(fold.name.upper(), *(tuple(f"x{name}" for name in reversed(ids)) for ids in fold.parts.values()))
        for fold in reversed(FOLDS)
    ]
    assert split_fingerprint(renamed, manifest("x")) == found
    moved = [replace(FOLDS[0], train=("0",), dev=("1", "2")), FOLDS[1]]
    assert len({found, split_fingerprint(moved, manifest()), split_fingerprint(FOLDS[:1], manifest())}) == 3
    assert split_fingerprint(FOLDS, manifest(audio="abce")) != found


def test_identical_recordings_count_twice_and_unread_audio_has_no_fingerprint() -> None:
    once, twice = Fold("f", ("0",), ("2",), ("3",)), Fold("f", ("0", "1"), ("2",), ("3",))
    assert split_fingerprint([once], manifest(audio="aacd")) != split_fingerprint([twice], manifest(audio="aacd"))
    assert split_fingerprint(FOLDS, Manifest.from_rows("toy", [{"id": str(n), "path": "x"} for n in range(4)])) == ""
