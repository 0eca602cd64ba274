"""Predictions as JSON, CSV and a table for the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from undertone.downstream.task import free_name

if TYPE_CHECKING:
    from rich.table import Table
FIXED = ("file", "start", "end", "channel", "speaker", "duration", "no_speech", "error")
"""Keys of a prediction that are not tasks; a task with such a name gets a trailing `_`."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_CONTROL = {code: f"\\u{code:04x}" for code in range(127, 160)}  # JSON escapes those below 32 itself


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Indented JSON of what `Predictor.predict` returned, without terminal control characters."""
    return json.dumps(rows, indent=2, ensure_ascii=False).translate(_CONTROL) + "\n"


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per file: `file,duration,emotion,emotion_angry,...,arousal`, and `error` if any file has one.

    Values per frame are averaged; JSON has all of them, and the attention. A name or label that a spreadsheet would
    interpret as a formula (it begins with = + - @, a tab or a carriage return) or that begins with ' is prefixed with
    ', as OWASP advises: remove one leading ' from each text when reading the file.

    Args:
        rows: what `Predictor.predict` returned.
    """
    flat = [_flat(row) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    columns = [*(name for name in names if name != "error"), *(["error"] if "error" in names else [])]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_no_formula, columns))
    writer.writerows([row.get(name, "") for name in columns] for row in flat)
    return text.getvalue()


def as_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A rich table: for each task a column with the label and its probability, or the value.

    Args:
        rows: what `Predictor.predict` returned.
    """
    from rich.table import Table
    from rich.text import Text

    from undertone.common.console import printable

    names = (name for row in rows for name in row if name not in FIXED and not _is_attention(row[name]))
    tasks = list(dict.fromkeys(names))
    errors = any("error" in row for row in rows)
    table = Table("file", "seconds", *map(printable, tasks), *(["error"] if errors else []))
    for row in rows:
        seconds = f"{row['duration']:.2f}" if "duration" in row else ""
        cells = [row["file"], seconds, *(_cell(row.get(task)) for task in tasks)]
        table.add_row(*(Text(printable(cell)) for cell in [*cells, *([row.get("error", "")] if errors else [])]))
    return table


def _flat(row: Mapping[str, Any]) -> dict[str, str]:
    """{column: text} of one prediction."""
    flat: dict[str, str] = {}
    for name, value in row.items():
        if _is_attention(value):
            continue
        value, name = _mean_if_over_time(value), free_name(name, *flat)
        if isinstance(value, Mapping):
            flat[name] = _no_formula(value["label"])
            for label, score in value["scores"].items():
                flat[free_name(f"{name}_{label}", *FIXED, *flat)] = f"{score:.6f}"
        else:
            flat[name] = f"{value:.6f}" if isinstance(value, float) else _no_formula(str(value))
    return flat


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def _cell(value: Any) -> str:
    value = _mean_if_over_time(value)
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return f"{value['label']} {value['scores'][value['label']]:.2f}"
    return f"{value:.2f}"


def _is_attention(value: Any) -> bool:
    return isinstance(value, Mapping) and "weights" in value


def _mean_if_over_time(value: Any) -> Any:
    return value["mean"] if isinstance(value, Mapping) and "mean" in value else value
