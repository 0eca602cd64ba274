"""The CSV, JSON and the notebook's table hold what the predictions hold."""

from __future__ import annotations

import csv
import io
import json

from undertone.inference.format import Predictions, to_json
from undertone.inference.write import as_csv

ROWS = [
    {
        "file": "a [b], c.wav",
        "duration": 1.25,
        "emotion": {"label": "sad", "scores": {"angry": 0.25, "sad": 0.75}},
        "arousal": 0.5,
    },
    {"file": "b.wav", "error": 'truncated: "half" of it.'},
]


def test_csv_has_a_column_a_task_and_one_a_class():
    first, second = csv.DictReader(io.StringIO(as_csv(ROWS)))
    assert first == {
        "file": "a [b], c.wav",
        "duration": "1.250000",
        "emotion": "sad",
        "emotion_angry": "0.250000",
        "emotion_sad": "0.750000",
        "arousal": "0.500000",
        "no_speech": "",
        "error": "",
    }
    assert list(first) == list(second)
    assert second["error"] == 'truncated: "half" of it.' and second["emotion"] == ""


def test_a_notebook_shows_label_and_probability_and_no_markup_of_a_name():
    page = Predictions([*ROWS, {"file": "<b>.wav", "embedding": [0.5]}])._repr_html_()
    for shown in (
        "a [b], c.wav",
        "1.25",
        "sad 0.75",
        "0.50",
        "<th>error</th>",
        "truncated: &quot;half&quot; of it.",
        "&lt;b&gt;",
    ):
        assert shown in page
    assert "embedding" not in page and page.count("<tr>") == 4


def test_a_frame_has_the_columns_of_the_csv():
    frame = Predictions(ROWS).to_pandas()
    assert list(frame) == ["file", "duration", "emotion", "emotion_angry", "emotion_sad", "arousal", "error"]
    assert frame["emotion_sad"][0] == 0.75 and frame["error"][1] == ROWS[1]["error"]


def test_vectors_are_json_in_a_cell():
    (line,) = csv.DictReader(io.StringIO(as_csv([{"file": "a", "embedding": [0.5, -1.0]}])))
    assert json.loads(line["embedding"]) == [0.5, -1.0]


def test_of_values_over_time_the_mean_is_shown() -> None:
    row = {"file": "a.wav", "duration": 1.0, "arousal": {"mean": 0.25, "times": [0.5], "values": [0.25]}}
    assert as_csv([row]) == "file,duration,arousal,no_speech,error\na.wav,1.000000,0.250000,,\n"
    assert "0.25" in Predictions([row])._repr_html_()


NAMES = ["=cmd|'calc'!A1.wav", "+1.wav", "-1.wav", "@SUM(A1).wav", "\t=1.wav", "'quoted.wav", "plain=1.wav"]


def test_no_cell_of_a_csv_is_a_formula_and_the_true_name_reads_back() -> None:
    rows = [{"file": name, "duration": 1.0, "=x": {"label": "=y", "scores": {"=y": 1.0}}, "z": -0.5} for name in NAMES]
    header, *cells = csv.reader(io.StringIO(as_csv(rows)))
    assert header[2:5] == ["'=x", "'=x_=y", "z"]
    assert not any(cell[:1] in tuple("=+@\t\r") for row in [header, *cells] for cell in row)
    assert [row[0].removeprefix("'") for row in cells] == NAMES
    assert [row[2:5] for row in cells] == [["'=y", "1.000000", "-0.500000"]] * len(NAMES)  # a number stays one


def test_no_control_character_is_in_json() -> None:
    name = "x\x1b]0;title\x07\x9b31m.wav"
    rows = [{"file": name, "duration": 1.0, "\x1b[2J": {"label": "\x1b[31mred", "scores": {"\x1b[31mred": 1.0}}}]
    rows += [{"file": name, "error": "\x1b[31m"}]
    assert not any(char in to_json(rows) for char in "\x1b\x07\x9b")
    assert json.loads(to_json(rows)) == rows
