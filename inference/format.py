"""What `Predictor.predict` returns, and the same as flat columns, and as cells of JSON, CSV and HTML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from undertone.downstream.task import free_name

if TYPE_CHECKING:
    import pandas

Prediction = dict[str, Any]

ATTENTION = "attention"  # key of the frames' weights
EMBEDDING = "embedding"  # key of the vector that the outputs are computed from
VECTORS = (ATTENTION, EMBEDDING)  # which no table shows
NO_SPEECH = "no_speech"  # key of the reason for which there is no prediction
REASONS = (NO_SPEECH, "error")  # in place of all tasks
FIXED = ("file", "start", "end", "channel", "speaker", "duration", *VECTORS, *REASONS)
"""Keys of a prediction that are not tasks; a task with such a name gets a trailing `_`."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_CONTROL = {code: f"\\u{code:04x}" for code in range(127, 160)}  # JSON escapes those below 32 itself


class Predictions(list[Prediction]):
    """A list of predictions that notebooks show as a table."""

    def to_pandas(self) -> pandas.DataFrame:
        """A frame with a column a task, one a class, and so on, as in a CSV; a row a recording.

        Example:
            >>> import undertone
            >>> frame = undertone.load_model("runs/quickstart").predict(["call.wav"]).to_pandas()
            >>> list(frame.columns[:4])
            ['file', 'duration', 'emotion', 'emotion_angry']
        """
        import pandas

        return pandas.DataFrame([flat(row) for row in self])

    def _repr_html_(self) -> str:
        """What a notebook shows: a row a recording, with labels, probabilities and values."""
        return html_table([{name: cell(value) for name, value in row.items() if name not in VECTORS} for row in self])


def task_key(name: str) -> str:
    """The key of the task `name` in a prediction."""
    return free_name(name, *FIXED)


def html_table(rows: Sequence[Mapping[str, str]]) -> str:
    """A table with a column for every key."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["".join(f"<th>{escape(name)}</th>" for name in names)]
    lines += ["".join(f"<td>{escape(row.get(name, ''))}</td>" for name in names) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def facts_as_html(facts: Mapping[str, str]) -> str:
    """A table of two columns."""
    rows = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return f"<table>{''.join(rows)}</table>"


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON without terminal control characters; what JSON has no form for, such as a date, is text."""
    return json.dumps(value, indent=indent, ensure_ascii=False, default=str).translate(_CONTROL)


def csv_line(cells: Iterable[str]) -> str:
    """A line of CSV, quoted where needed."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """{column: text, number, or list or mapping} of one prediction: a column a task and one a class."""
    columns: dict[str, Any] = {}
    for name, value in row.items():
        value, name = mean_if_over_time(value), free_name(name, *columns)
        if isinstance(value, Mapping) and "scores" in value:
            columns[name] = value["label"]
            for label, score in value["scores"].items():
                columns[free_name(f"{name}_{label}", *FIXED, *columns)] = score
            if "unsure" in value:
                columns[free_name(f"{name}_unsure", *FIXED, *columns)] = value["unsure"]
        else:
            columns[name] = value
    return columns


def as_text(value: Any) -> str:
    """A cell of a CSV: six decimals, a text that is no formula, JSON of a list."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6f}"
    return no_formula(value if isinstance(value, str) else to_json(value))


def no_formula(text: str) -> str:
    """The text, with ' in front where a spreadsheet would compute it."""
    return f"'{text}" if text.startswith(FORMULA) else text


def cell(value: Any) -> str:
    """A label with its probability, or a value, as a table shows it."""
    value = mean_if_over_time(value)
    if isinstance(value, Mapping):
        unsure = "?" if value.get("unsure") else ""
        return f"{value['label']} {value['scores'][value['label']]:.2f}{unsure}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def mean_if_over_time(value: Any) -> Any:
    """The mean of values per frame; anything else as it is."""
    return value["mean"] if isinstance(value, Mapping) and "mean" in value else value
