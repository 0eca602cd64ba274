"""Predictions as a CSV text and as a table for the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

FIXED = ("file", "duration", "error")


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a file: `file,duration,emotion,emotion_angry,...,arousal`, and `error` if any file has one.

    Of values over time it has the mean; `--json` has them all, and a head's attention.

    Args:
        rows: what `Predictor.predict` returned.
    """
    flat = [_flat(row) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    columns = [*(name for name in names if name != "error"), *(["error"] if "error" in names else [])]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def as_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A rich table: a column a task with the label and its probability, or the value.

    Args:
        rows: what `Predictor.predict` returned.
    """
    from rich.table import Table
    from rich.text import Text

    names = (name for row in rows for name in row if name not in FIXED and not _is_attention(row[name]))
    tasks = list(dict.fromkeys(names))
    errors = any("error" in row for row in rows)
    table = Table("file", "seconds", *tasks, *(["error"] if errors else []))
    for row in rows:
        seconds = f"{row['duration']:.2f}" if "duration" in row else ""
        cells = [row["file"], seconds, *(_cell(row.get(task)) for task in tasks)]
        table.add_row(*(Text(cell) for cell in [*cells, *([row.get("error", "")] if errors else [])]))
    return table


def _flat(row: Mapping[str, Any]) -> dict[str, str]:
    """{column: text} of one prediction."""
    flat: dict[str, str] = {}
    for name, value in row.items():
        if _is_attention(value):
            continue
        value = _mean_if_over_time(value)
        if isinstance(value, Mapping):
            flat[name] = value["label"]
            flat |= {f"{name}_{label}": f"{score:.6f}" for label, score in value["scores"].items()}
        else:
            flat[name] = f"{value:.6f}" if isinstance(value, float) else str(value)
    return flat


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
