"""The user's own table: four formats, one result; every mistake is named with its row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from undertone.corpora import load_corpus
from undertone.corpora.prepare import prepare

ROWS: list[dict[str, Any]] = [
    {"file": "a.wav", "speaker": "01", "gender": "F", "emotion": "angry", "arousal": 0.9, "split": "train", "age": 31},
    {
        "file": "sub/b.wav",
        "speaker": "02",
        "gender": "male",
        "emotion": None,
        "arousal": 0.2,
        "split": "val",
        "age": 62,
    },
    {
        "file": "sub/b.wav",
        "speaker": "02",
        "gender": "m",
        "emotion": "sad",
        "arousal": None,
        "split": "TEST",
        "age": None,
    },
]
SPANS = [{"start": None, "end": None}, {"start": 0.0, "end": 0.5}, {"start": 0.5, "end": None}]


def write(path: Path, rows: list[dict[str, Any]], separator: str = ",") -> Path:
    """A table in the format that the path's suffix names."""
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({k: v for k, v in row.items() if v is not None}) for row in rows))
    elif path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        separator = "\t" if path.suffix == ".tsv" else separator
        lines = [list(rows[0]), *([("" if row.get(k) is None else str(row[k])) for k in rows[0]] for row in rows)]
        path.write_text("".join(separator.join(line) + "\r\n" for line in lines), encoding="utf-8-sig")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for number, name in enumerate(["a.wav", "sub/b.wav"]):
        soundfile.write(tmp_path / name, np.random.default_rng(number).uniform(-0.5, 0.5, 16000), 16000)
    return tmp_path


@pytest.mark.parametrize("name", ["calls.csv", "calls.tsv", "calls.jsonl", "calls.parquet", "german.csv"])
def test_every_format_gives_the_same_manifest(folder: Path, name: str) -> None:
    rows = [row | span for row, span in zip(ROWS, SPANS, strict=True)]
    corpus = load_corpus(str(write(folder / name, rows, ";" if name == "german.csv" else ",")))
    manifest = prepare(corpus, None).manifest
    assert manifest.ids == ("a.wav", "sub/b.wav#0-0.5", "sub/b.wav#0.5-")
    assert manifest[0].path == str(folder / "a.wav") and manifest[0].corpus == Path(name).stem
    assert manifest.column("duration") == [1.0, 0.5, 0.5]
    assert manifest.column("speaker") == ["01", "02", "02"]
    assert manifest.column("gender") == ["female", "male", "male"]
    assert manifest.column("emotion") == ["angry", None, "sad"]
    assert manifest.column("arousal") == [0.9, 0.2, None]
    assert manifest.column("split") == ["train", "dev", "test"]
    assert manifest.labels("age") == [31, 62, None]


def test_root_moves_relative_files(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    table = write(tmp_path_factory.mktemp("elsewhere") / "calls.csv", [{"file": "sub/b.wav", "emotion": "sad"}])
    assert prepare(load_corpus(str(table)), folder).manifest[0].path == str(folder / "sub/b.wav")
    absolute = write(table, [{"file": str(folder / "a.wav"), "emotion": "sad"}])
    assert prepare(load_corpus(str(absolute)), folder).manifest.ids == ("a.wav",)


@pytest.mark.parametrize("target", [{"gender": "w"}, {"valence": 0.5}, {"stress": "low"}])
def test_one_target_is_enough(folder: Path, target: dict[str, Any]) -> None:
    manifest = prepare(load_corpus(str(write(folder / "t.csv", [{"file": "a.wav"} | target]))), None).manifest
    assert manifest.labels(next(iter(target))) == ["female" if "gender" in target else next(iter(target.values()))]


def test_a_column_of_codes_remains_text(folder: Path) -> None:
    rows = [{"file": "a.wav", "site": "01", "score": "1e-1"}, {"file": "sub/b.wav", "site": "2", "score": ""}]
    manifest = prepare(load_corpus(str(write(folder / "t.csv", rows))), None).manifest
    assert manifest.labels("site") == ["01", "2"] and manifest.labels("score") == [0.1, None]


def test_whole_numbers_that_became_floats_are_labels_again(folder: Path) -> None:
    rows = [
        {"file": "a.wav", "speaker": 3.0, "emotion": "sad"},
        {"file": "sub/b.wav", "speaker": None, "emotion": "sad"},
    ]
    assert prepare(load_corpus(str(write(folder / "t.parquet", rows))), None).manifest.column("speaker") == ["3", None]


def test_a_missing_file_is_set_aside(folder: Path) -> None:
    rows = [{"file": "a.wav", "emotion": "sad"}, {"file": "gone.wav", "emotion": "sad"}]
    prepared = prepare(load_corpus(str(write(folder / "t.csv", rows))), None)
    assert prepared.broken == [(str(folder / "gone.wav"), "no such file.")] and prepared.manifest.ids == ("a.wav",)


@pytest.mark.parametrize(
    ("name", "votes"),
    [
        ("t.csv", "angry:3; neutral:1"),
        ("t.jsonl", {"angry": 3, "neutral": 1}),
        ("t.parquet", {"angry": 3, "neutral": 1}),
    ],
)
def test_votes_are_a_target_of_their_own(folder: Path, name: str, votes: Any) -> None:
    rows = [{"file": "a.wav", "votes": votes}, {"file": "sub/b.wav", "votes": None}]
    manifest = prepare(load_corpus(str(write(folder / name, rows))), None).manifest
    assert manifest.column("votes") == [{"angry": 3.0, "neutral": 1.0}, None]


@pytest.mark.parametrize("votes", ["angry", "angry:many", ":3", "angry:-1", "angry:nan", [1, 2], {"angry": [1]}, {}])
def test_votes_that_are_none(folder: Path, votes: Any) -> None:
    with pytest.raises(
        ValueError, match=r"row 1: votes is .*; write how many raters chose what, as in angry:3;neutral:1"
    ):
        prepare(load_corpus(str(write(folder / "t.jsonl", [{"file": "a.wav", "votes": votes}]))), None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"fiel": "a.wav", "emotion": "sad"}], "column 'fiel' looks like 'file'.*Rename it"),
        ([{"wave": "a.wav", "emotion": "sad"}], "no column 'file'. Its columns: wave, emotion. Known: file, speaker"),
        ([{"file": "a.wav", "emotoin": "sad"}], "column 'emotoin' looks like 'emotion', which the table lacks"),
        ([{"file": "a.wav", "emotion": "sad", "speaker_id": "1"}], "'speaker_id' looks like 'speaker'"),
        ([{"file": "a.wav", "speaker": "1"}], "no target: emotion, gender, arousal, .* or a column of your own"),
        (
            [{"file": "a.wav", "gender": "x"}, {"file": "b.wav", "gender": "u"}],
            r"gender has 'x' \(row 2\), 'u' \(row 3\)",
        ),
        ([{"file": "a.wav", "emotion": "sad", "split": "fold1"}], r"split has 'fold1' \(row 2\); allowed: train, "),
        ([{"file": "a.wav", "arousal": 3.5}], r"row 2: arousal is 3.5; it must be from 0 to 1. .*\(value - 1\) / 4"),
        ([{"file": "a.wav", "arousal": "high"}], "row 2: arousal is 'high'; it must be a number from 0 to 1"),
        ([{"file": "a.wav", "emotion": "sad", "end": "0:03"}], "row 2: end is '0:03'; it must be seconds"),
        ([{"file": "a.wav", "emotion": "sad", "end": "nan"}], "row 2: end is 'nan'; it must be seconds"),
        ([{"file": "a.wav", "emotion": "sad"}, {"file": "", "emotion": "sad"}], "row 3: no file"),
        ([{"file": "a.wav", "emotion": "sad"}] * 2, "1 repeat in 't': a.wav"),
        ([{"file": "a.wav", "emotion": "sad, or not"}], "row 2: 3 cells under a header of 2"),
    ],
)
def test_mistakes(folder: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(load_corpus(str(write(folder / "t.csv", rows))), None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "has no rows"),
        ("t.csv", b"file,emotion\n", "has no rows"),
        ("t.csv", b"file,emotion\na.wav\n", "row 2: 1 cells under a header of 2"),
        ("t.csv", "file,emotion\na.wav,wütend\n".encode("latin-1"), "not UTF-8"),
        ("t.jsonl", b'{"file": "a.wav"}\n{"file": \n', "row 2 is not JSON"),
        ("t.jsonl", b'\n["a.wav"]\n', "row 2: expected an object"),
        ("t.parquet", b"PAR2", "not a Parquet file"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        prepare(load_corpus(str(tmp_path / name)), None)


def test_no_table_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"No such table: .*gone\.csv"):
        prepare(load_corpus(str(tmp_path / "gone.csv")), None)
    write(tmp_path / "t.csv", [{"file": "a.wav", "emotion": "sad"}])
    with pytest.raises(ValueError, match="no such folder: .*nowhere. Give --root"):
        prepare(load_corpus(str(tmp_path / "t.csv")), tmp_path / "nowhere")


def test_rows_of_several_corpora(folder: Path) -> None:
    rows = [ROWS[0] | {"corpus": name, "file": file} for name, file in (("one", "a.wav"), ("two", "sub/b.wav"))]
    manifest = prepare(load_corpus(str(write(folder / "both.csv", rows))), None).manifest
    assert manifest.column("corpus") == ["one", "two"] and manifest.column("speaker") == ["01", "01"]
    assert list(manifest.speaker_names.values()) == ["one/01", "two/01"]
    plain = prepare(load_corpus(str(write(folder / "plain.csv", ROWS[:1]))), None).manifest
    assert plain.column("corpus") == ["plain"] and list(plain.speaker_names.values()) == ["01"]
