"""The CSV and the table hold what the predictions hold."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from undertone.inference.format import as_csv, as_table

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
        "error": "",
    }
    assert list(first) == list(second)
    assert second["error"] == 'truncated: "half" of it.' and second["emotion"] == ""


@pytest.mark.parametrize("rows, header", [(ROWS[:1], "arousal"), (ROWS[::-1], "error"), (ROWS[1:], "file,error")])
def test_the_error_column_is_last_and_only_there_when_needed(rows, header):
    assert as_csv(rows).splitlines()[0].endswith(header)
    assert as_csv(rows).endswith("\n") and as_csv(rows).count("\n") == len(rows) + 1


def test_the_table_shows_label_and_probability():
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(as_table(ROWS))
    text = console.export_text()
    for shown in ("a [b], c.wav", "1.25", "sad 0.75", "0.50", "error", 'truncated: "half" of it.'):
        assert shown in text
    assert [column.header for column in as_table(ROWS[:1]).columns] == ["file", "seconds", "emotion", "arousal"]


def test_of_values_over_time_the_mean_is_shown() -> None:
    row = {"file": "a.wav", "duration": 1.0, "arousal": {"mean": 0.25, "times": [0.5], "values": [0.25]}}
    assert as_csv([row]) == "file,duration,arousal\na.wav,1.000000,0.250000\n"
    console = Console(file=io.StringIO(), width=80)
    console.print(as_table([row]))
    assert "0.25" in console.file.getvalue()
