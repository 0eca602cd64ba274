"""Rows are written as they come, each format reads back what was predicted, a table's cells come back as they were."""

from __future__ import annotations

import csv
import io
import json

import pyarrow.parquet as pq
import pytest

from undertone.inference.write import WRITERS, ParquetWriter

GOOD = {
    "file": "a [b], c.wav",
    "duration": 1.25,
    "emotion": {"label": "sad", "scores": {"angry": 0.25, "sad": 0.75}},
    "arousal": 0.5,
}
BAD = {"file": "b.wav", "error": "the file is empty."}
CELLS = {"file": "calls/1.wav", "emotion": "=sad", "turn": -3}


def written(kind, *rows):
    """What each row added to the text, and what closing did."""
    pieces = []
    writer = WRITERS[kind](pieces.append)
    added = []
    for row, cells in rows:
        before = len(pieces)
        writer.write(row, cells)
        added.append("".join(pieces[before:]))
    before = len(pieces)
    writer.close()
    return added, "".join(pieces)


@pytest.mark.parametrize("kind", ["table", "csv", "json", "jsonl"])
def test_a_row_is_written_when_it_comes(kind):
    added, _ = written(kind, (GOOD, {}), (BAD, {}), (GOOD, {}))
    assert all("wav" in text for text in added)


@pytest.mark.parametrize("kind", ["table", "csv"])
def test_a_bad_row_first_waits_for_the_names_of_the_columns(kind):
    added, text = written(kind, (BAD, {}), (GOOD, {}))
    assert added[0] == "" and text.index("b.wav") < text.index("a [b]")
    assert "emotion" in text.splitlines()[0]
    assert "b.wav" in written(kind, (BAD, {}))[1]


def test_the_table_has_a_line_a_row_and_whole_names_at_the_end():
    name = "calls/" + "long " * 60 + ".wav"
    _, text = written("table", (GOOD | {"file": name}, {}), (BAD, {}), (GOOD, {}))
    lines = text.splitlines()
    assert len(lines) == 4 and lines[0].split() == ["seconds", "emotion", "arousal", "file"]
    assert lines[1] == f"   1.25  sad 0.75    0.50     {name}"
    assert lines[2].split() == ["b.wav:", "the", "file", "is", "empty."]
    assert {line.index(word) for line, word in zip(lines[::3], ("file", "a [b]"), strict=True)} == {30}


def test_no_control_character_of_a_name_or_label_is_in_the_table():
    label = "\x1b[31mred"
    row = {"file": "x\x1b]0;t\x07\x9b.wav\n", "duration": 1.0, "\x1b[2J": {"label": label, "scores": {label: 1.0}}}
    _, text = written("table", (row, {}))
    assert not any(char in text for char in "\x1b\x07\x9b") and text.count("\n") == 2


def test_json_is_a_list_also_when_nothing_or_half_was_written():
    assert json.loads(written("json")[1]) == []
    assert json.loads(written("json", (GOOD, {}), (BAD, {}))[1]) == [GOOD, BAD]
    lines = written("jsonl", (GOOD, {}), (BAD, {}))[1].splitlines()
    assert [json.loads(line) for line in lines] == [GOOD, BAD]


def test_a_csv_always_has_the_column_of_errors():
    for rows in ([GOOD], [GOOD, BAD], [BAD, GOOD]):
        header, *lines = csv.reader(io.StringIO(written("csv", *((row, {}) for row in rows))[1]))
        assert header == [
            "file",
            "duration",
            "emotion",
            "emotion_angry",
            "emotion_sad",
            "arousal",
            "no_speech",
            "error",
        ]
        assert all(len(line) == len(header) for line in lines) and len(lines) == len(rows)


def test_the_cells_of_a_table_come_back_with_predictions_added():
    (line,) = csv.DictReader(io.StringIO(written("csv", (GOOD, CELLS))[1]))
    assert line["file"] == "calls/1.wav" and line["emotion"] == "=sad" and line["turn"] == "-3"
    assert line["predicted_emotion"] == "sad" and line["predicted_emotion_angry"] == "0.250000"
    assert line["arousal"] == "0.500000" and line["error"] == ""
    (row,) = json.loads(written("json", (GOOD, CELLS))[1])
    assert row["turn"] == -3 and row["emotion"] == "=sad" and row["predicted_emotion"] == GOOD["emotion"]
    (row,) = csv.DictReader(io.StringIO(written("csv", (BAD, {"file": "b.wav", "error": "mine"}))[1]))
    assert row == {"file": "b.wav", "error": "mine", "no_speech": "", "predicted_error": BAD["error"]}


def test_parquet_has_types(tmp_path):
    writer = ParquetWriter(tmp_path / "out.parquet")
    writer.write(GOOD | {"embedding": [0.5, 1.0]}, {"turn": 1, "mixed": 1})
    writer.write(BAD, {"turn": None, "mixed": "one"})
    assert not (tmp_path / "out.parquet").exists()
    writer.close()
    table = pq.read_table(tmp_path / "out.parquet")
    first, second = table.to_pylist()
    assert first["emotion_sad"] == 0.75 and first["embedding"] == [0.5, 1.0] and first["turn"] == 1
    assert second["error"] == BAD["error"] and second["emotion"] is None and second["mixed"] == "one"
    assert str(table.schema.field("embedding").type) == "list<element: float>" and first["mixed"] == "1"
