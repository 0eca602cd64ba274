"""What a user's cells mean: one set of rules for a table, a folder and a Hugging Face data set."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile

from undertone.corpora import load_corpus
from undertone.corpora.own.labels import Labels, parse_map
from undertone.corpora.prepare import Prepared, prepare


def own(values: list[Any], typed: bool = True) -> tuple[list[Any] | None, list[str]]:
    labels = Labels("t", range(1, len(values) + 1), typed)
    return labels.own("stress", values), labels.notes


def read(column: str, values: list[Any]) -> tuple[list[Any], list[str]]:
    labels = Labels("t", range(1, len(values) + 1), typed=True)
    return labels.read(column, values), labels.notes


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [str(tmp_path / f"{number}.wav") for number in range(6)]
    for number, path in enumerate(paths):
        soundfile.write(path, np.random.default_rng(number).uniform(-0.3, 0.3, 3200), 16000)
    return paths


def both(files: list[str], tmp_path: Path, **columns: list[Any]) -> list[Prepared]:
    """The same columns as a Parquet table and as a data set."""
    data = datasets.Dataset.from_dict({"file": files, "audio": files, **columns})
    data.save_to_disk(tmp_path / "set")
    data.remove_columns("audio").to_parquet(tmp_path / "set.parquet")
    return [prepare(load_corpus(where), None) for where in (f"hf:{tmp_path / 'set'}", str(tmp_path / "set.parquet"))]


@pytest.mark.parametrize("word", ["", " ", "nan", "NaN", "None", "NA", "n/a", "null", "-", "<NA>", None, float("nan")])
def test_missing(word: Any) -> None:
    for column in ("emotion", "speaker", "gender", "arousal", "split"):
        values, notes = read(column, [word, None])
        assert values == [None, None] and len(notes) == bool(str(word or "").strip() and word == word)
    assert own([word, "0.5", 1.5])[0] == [None, 0.5, 1.5]


def test_spellings_are_one_and_said() -> None:
    zoe = unicodedata.normalize("NFD", "Zoë")
    values, notes = read("speaker", ["zoë", zoe, "ZOË ", " zoë", "b"])
    assert values == ["zoë"] * 4 + ["b"]
    assert notes == ["t: 'ZOË' and 'Zoë' and 'zoë' are merged into one speaker, 'zoë'."]
    assert read("emotion", ["Angry", "angry", "very  sad", "very sad"])[0] == ["angry", "angry", "very sad", "very sad"]
    assert read("speaker", ["Zoë", zoe]) == (["Zoë", "Zoë"], []), "one Unicode form, which nobody could tell apart"


def test_whole_floats_are_whole() -> None:
    assert read("speaker", [3.0, None, 4.0])[0] == ["3", None, "4"] == read("speaker", ["3.0", "", "4.0"])[0]
    assert read("emotion", [0.0, float("nan"), 1.0])[0] == ["0", None, "1"]


@pytest.mark.parametrize("values", [[0.25, 1.0], ["0.25", "1"], ["0,25", "1"]])
def test_a_value_is_no_class(values: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"t, row 1: emotion is 0.25, a number and not a class.*tasks=NAME"):
        read("emotion", values)


def test_numbers_of_the_users_own() -> None:
    assert own([0.5, None, 1]) == ([0.5, None, 1], [])
    assert own(["0.5", "NA", "1"])[0] == [0.5, None, 1] == own(["0,5", "", "1"])[0]
    assert own(["1", "2"])[0] == ["1", "2"] and own(["1", "2"], typed=False)[0] == [1, 2]
    assert own(["01", "2"], typed=False)[0] == ["01", "2"], "a code"
    values, notes = own(["0.5", "0.7", "high"])
    assert values == ["0.5", "0.7", "high"] and "read as classes, because 'high' is not a number" in notes[0]
    for infinite in (float("inf"), "1e999"):
        with pytest.raises(ValueError, match="t, row 2: stress is .*finite number"):
            own([0.5, infinite, "0.5"], typed=False)


def test_lists_are_no_labels() -> None:
    for cell in (["sad"], {"sad": 1}, b"sad", np.array([1])):
        with pytest.raises(ValueError, match="t, row 2: emotion is .*it must be one word or number"):
            read("emotion", ["sad", cell])
        values, notes = own(["sad", cell])
        assert values is None and "'stress' holds" in notes[0] and "left out" in notes[0]


def test_votes_are_spelled_like_labels() -> None:
    labels = Labels("t", range(3), typed=True)
    emotions, votes = labels.emotions(["angry", "angry", "Sad"], ["Angry:2; angry:1;sad:1", None, {"SAD": 1}])
    assert emotions == ["angry", "angry", "SAD"] or emotions == ["angry", "angry", "sad"]
    assert votes[0] == {"angry": 3.0, emotions[2]: 1.0} and votes[2] == {emotions[2]: 1.0}


def test_a_label_twice_in_votes_is_added_up_and_said() -> None:
    labels = Labels("t.csv", [2, 3, 4], typed=False)
    _, votes = labels.emotions([None] * 3, ["sad:2;angry:1", "sad:2;sad:1", "Sad:1;angry:2;sad:1"])
    assert votes == [{"sad": 2, "angry": 1}, {"sad": 3}, {"sad": 2, "angry": 2}]
    assert labels.notes == [
        "t.csv: votes have a label more than once in 2 rows, the first is row 3: its counts are added up."
    ]


def test_reading_a_map() -> None:
    assert parse_map("joy=happy, anger = angry") == {"joy": "happy", "anger": "angry"}
    for text in ("joy", "joy=", "=happy", "", "a=b=c"):
        with pytest.raises(ValueError, match="--map needs LABEL=LABEL,... such as joy=happy"):
            parse_map(text)
    with pytest.raises(ValueError, match="corpus.map gives 'joy' two names: .*Keep one"):
        parse_map("joy=happy,joy=sad", "corpus.map")


def test_a_table_and_a_data_set_say_the_same(files: list[str], tmp_path: Path) -> None:
    found = both(
        files,
        tmp_path,
        emotion=["Angry", "angry ", "sad", "None", "sad", "angry"],
        speaker=[1.0, 2.0, 3.0, float("nan"), 2.0, 1.0],
        arousal=[0.5, float("nan"), 0.1, 0.2, 0.3, 1.0],
        stress=["0.5", "NA", "1", "2", "3", "4"],
        vector=[[1.0, 2.0]] * 6,
    )
    for one in found:
        assert one.manifest.column("emotion") == ["angry", "angry", "sad", None, "sad", "angry"]
        assert one.manifest.column("speaker") == ["1", "2", "3", None, "2", "1"]
        assert one.manifest.column("arousal") == [0.5, None, 0.1, 0.2, 0.3, 1.0]
        assert one.manifest.labels("stress") == [0.5, None, 1, 2, 3, 4] and "vector" not in one.manifest.extra_columns
        said = " ".join(one.warnings)
        assert all(part in said for part in ("'Angry'", "'None' (1)", "'NA' (1)", "'vector'")), said


def test_labels_of_several_splits_are_spelled_alike(files: list[str], tmp_path: Path) -> None:
    splits = {
        name: datasets.Dataset.from_dict({"audio": files[at : at + 3], "emotion": words})
        for name, at, words in (("train", 0, ["sad", "angry", "sad"]), ("test", 3, ["Sad", "angry", "sad"]))
    }
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "set")
    manifest = prepare(load_corpus(f"hf:{tmp_path / 'set'}"), None).manifest
    assert manifest.column("emotion") == ["sad", "angry", "sad", "sad", "angry", "sad"]


def test_lists_of_a_data_set_are_refused(files: list[str], tmp_path: Path) -> None:
    data = datasets.Dataset.from_dict({"audio": files, "emotion": [["sad", "angry"]] * 6})
    data.save_to_disk(tmp_path / "set")
    with pytest.raises(ValueError, match="row 0: emotion is .*one word or number"):
        prepare(load_corpus(f"hf:{tmp_path / 'set'}"), None)


def test_a_folder_has_the_same_rules_and_counts_what_it_leaves_out(tmp_path: Path) -> None:
    for number, folder in enumerate(("Angry", "angry", "sad")):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / f"{number}.wav", np.random.default_rng(number).uniform(-1, 1, 3200), 16000)
    soundfile.write(tmp_path / "sad" / "9.caf", np.random.default_rng(9).uniform(-1, 1, 3200), 16000)
    for name in ("a.m4a", "b.M4A", "c.txt"):
        (tmp_path / "sad" / name).write_bytes(b"x")
    found = prepare(load_corpus(str(tmp_path)), None)
    assert found.manifest.column("emotion") == ["angry", "angry", "sad", "sad"]
    assert (
        "3 files with other endings are left out: 2 .m4a, 1 .txt." in found.warnings[0]
        and "'Angry'" in found.warnings[1]
    )
