"""What two sides of a split share, from tables and from prepared manifests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from undertone.corpora.check_split import balance_table, check_parts, check_split, fingerprint
from undertone.corpora.manifest import Manifest
from undertone.corpora.own.split_files import read_folds


def side(corpus: str, *rows: tuple[str | None, str, str | None]) -> Manifest:
    """Rows of (speaker, hash of the audio, text)."""
    fields = ("speaker", "audio_hash", "text")
    return Manifest.from_rows(
        corpus,
        [{"id": f"{corpus}{n}", "path": "x", **dict(zip(fields, row, strict=True))} for n, row in enumerate(rows)],
    )


def test_each_kind_is_found_alone() -> None:
    train = side("train", ("a", "1", "Don't go!"), ("a", "2", "Stay."), ("b", "3", "Why?"))
    for row, found in {
        ("a", "9", "new"): "1 shared speaker, in 2 utterances of train and 1 of test: a",
        ("c", "3", "new"): "1 shared recording, in 1 utterances of train and 1 of test: train2 = test0",
        ("c", "9", "DON'T  GO"): "1 shared sentence, in 1 utterances of train and 1 of test: don t go",
    }.items():
        shared, notes = check_split(train, side("test", row))
        assert [str(one) for one in shared] == [found] and notes == []
    assert check_split(train, side("test", ("c", "9", "new"))) == ([], [])


def test_speakers_of_our_corpora_are_theirs_and_those_of_tables_are_names() -> None:
    emodb, ravdess = side("emodb", ("03", "1", None)), side("ravdess", ("03", "2", None))
    assert check_split(emodb, ravdess)[0] == []
    assert [one.names for one in check_split(emodb, emodb)[0]] == [("emodb/03",), ("emodb0 = emodb0",)]
    assert [one.names for one in check_split(side("one", ("03", "1", None)), side("two", ("03", "2", None)))[0]] == [
        ("03",)
    ]


def test_what_cannot_be_compared_is_said() -> None:
    shared, notes = check_split(side("train", (None, "1", "x"), ("a", "2", None)), side("test", (None, "3", None)))
    assert shared == [] and notes == [
        "1 of 2 utterances of train have no speaker and are not compared by it.",
        "1 of 1 utterances of test have no speaker and are not compared by it.",
        "1 of 2 utterances of train have no sentence and are not compared by it.",
        "1 of 1 utterances of test have no sentence and are not compared by it.",
    ]


def test_sides_are_tables_or_manifests(tmp_path: Path) -> None:
    for name, seed in {"a": 0, "b": 1, "c": 0}.items():
        soundfile.write(tmp_path / f"{name}.wav", np.random.default_rng(seed).uniform(-0.3, 0.3, 8000), 16000)
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("file,emotion,speaker\na.wav,sad,1\nb.wav,sad,2\n")
    test.write_text("file;emotion;speaker\nc.wav;sad;3\n")
    parts = read_folds([str(train), str(test)])[0][""]
    parts["test"].save(tmp_path / "prepared")
    (tmp_path / "c.wav").unlink()
    again = {"train": parts["train"], "test": read_folds([str(train), str(tmp_path / "prepared")])[0][""]["test"]}
    for found in (parts, again):
        assert [one.names for one in check_parts(found)[0]] == [("a.wav = c.wav",)]
    with pytest.raises(ValueError, match="No such table"):
        read_folds([str(train), str(tmp_path / "gone.csv")])


def test_every_two_of_three_parts_are_compared_and_counted() -> None:
    parts = {
        "train": side("train", ("a", "1", "Stay.")),
        "dev": side("dev", ("a", "2", "Go."), ("d", "5", "Run.")),
        "test": side("test", ("b", "2", "Wait.")),
    }
    assert [str(one) for one in check_parts(parts)[0]] == [
        "1 shared speaker, in 1 utterances of train and 1 of dev: a",
        "1 shared recording, in 1 utterances of dev and 1 of test: dev0 = test0",
    ]
    assert balance_table({"": parts}) == (
        ["Part", "Utterances", "Speakers"],
        [["train", "1", "1"], ["dev", "2", "2"], ["test", "1", "1"]],
    )
    assert len(fingerprint({"": parts})) == 16
    assert fingerprint({"": parts | {"dev": side("dev", ("a", "", None))}}) == ""
