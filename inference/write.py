"""Predictions written one by one, as they are made: lines for the terminal, CSV, JSON, JSON Lines; or as Parquet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from undertone.common.files import atomic_path
from undertone.inference.format import FIXED, REASONS, as_text, cell, csv_line, flat, no_formula, to_json

Emit = Callable[[str], object]  # takes a piece of text: a whole line or several
PREDICTED = "predicted_"  # before the name of what a table has a column of already


class Writer(ABC):
    """Takes predictions in their order; each with the cells of the table that the recording was named in."""

    @abstractmethod
    def write(self, row: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
        """Write one prediction."""

    @abstractmethod
    def close(self) -> None:
        """Write what is still to be written."""


class _WithHeader(Writer):
    """A header is needed first: what comes before the first row without an error waits for it, and tells no names."""

    def __init__(self, emit: Emit) -> None:
        self.emit = emit
        self.waiting: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
        self.has_header = False

    def write(self, row: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
        self.waiting.append((row, cells))
        if self.has_header or not any(reason in row for reason in REASONS):
            self._flush()

    def close(self) -> None:
        self._flush()

    def _flush(self) -> None:
        if not self.has_header and self.waiting:
            self.begin(*self.waiting[-1])
            self.has_header = True
        for row, cells in self.waiting:
            self.line(row, cells)
        self.waiting = []

    @abstractmethod
    def begin(self, row: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
        """Write the header that fits a row."""

    @abstractmethod
    def line(self, row: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
        """Write a row."""


class TableWriter(_WithHeader):
    """Columns for the terminal: seconds, a column a task, and the file's name at the end, however long it is."""

    def begin(self, row: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
        self.tasks = [name for name in row if name not in FIXED]
        self.widths = {name: max(_cells(_shown(name)), _width(row[name])) for name in self.tasks}
        self._put(["seconds", *map(_shown, self.tasks)], "file")

    def line(self, row: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
        seconds = f"{row['duration']:7.2f}" if "duration" in row else ""
        if "start" in row:
            seconds = f"{row['start']:.2f}-{row['end']:.2f}"
        place = "".join(f", {row[name]}" for name in ("channel", "speaker") if row.get(name) is not None)
        error = "".join(f": {row[reason]}" for reason in REASONS if reason in row)
        shown = [_shown(cell(row[name])) if name in row else "" for name in self.tasks]
        self._put([seconds, *shown], _shown(f"{row['file']}{place}{error}"))

    def _put(self, columns: list[str], last: str) -> None:
        widths = [7, *self.widths.values()]
        padded = (text + " " * (width - _cells(text)) for text, width in zip(columns, widths, strict=True))
        self.emit("  ".join([*padded, last]).rstrip() + "\n")


def _cells(text: str) -> int:
    """The columns of a terminal that a text takes."""
    from rich.cells import cell_len  # not where Python predicts

    return cell_len(text)


def _shown(text: str) -> str:
    from undertone.common.console import printable

    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _width(value: Any) -> int:
    """Of the widest cell that a task can have."""
    labels = value["scores"] if isinstance(value, Mapping) and "scores" in value else {}
    more = 6 if isinstance(value, Mapping) and "unsure" in value else 5
    return max((_cells(_shown(label)) + more for label in labels), default=5)


class CsvWriter(_WithHeader):
    """`file,duration,emotion,emotion_angry,...,arousal,no_speech,error`, behind the columns of the user's table.

    Values per frame are averaged; the attention and embeddings are JSON. A name or label that a spreadsheet would
    interpret as a formula (it begins with = + - @, a tab or a carriage return) or that begins with ' is prefixed with
    ', as OWASP advises: remove one leading ' from each text when reading the file. The table's own cells come back as
    they were.
    """

    def begin(self, row: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
        reasons = list(_renamed(dict.fromkeys(REASONS, ""), cells))
        self.own = list(cells)
        self.columns = [*(name for name in flat(_renamed(row, cells)) if name not in reasons), *reasons]
        self.emit(csv_line([*self.own, *map(no_formula, self.columns)]))

    def line(self, row: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
        found = flat(_renamed(row, cells))
        own = [_own_text(cells.get(name)) for name in self.own]
        self.emit(csv_line([*own, *(as_text(found.get(name)) for name in self.columns)]))


def _own_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else to_json(value)


def as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """What `CsvWriter` writes of predictions."""
    pieces: list[str] = []
    writer = CsvWriter(pieces.append)
    for row in rows:
        writer.write(row, {})
    writer.close()
    return "".join(pieces)


class JsonWriter(Writer):
    """A list with an object a recording."""

    def __init__(self, emit: Emit) -> None:
        self.emit, self.count = emit, 0

    def write(self, row: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
        text = to_json([{**cells, **_renamed(row, cells)}], 2)  # "[\n  {...}\n]"
        self.emit(("," if self.count else "[") + text.removeprefix("[").removesuffix("\n]"))
        self.count += 1

    def close(self) -> None:
        self.emit("\n]\n" if self.count else "[]\n")


class JsonLinesWriter(Writer):
    """An object a line."""

    def __init__(self, emit: Emit) -> None:
        self.emit = emit

    def write(self, row: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
        self.emit(to_json({**cells, **_renamed(row, cells)}) + "\n")

    def close(self) -> None:
        """See `Writer.close`."""


class ParquetWriter(Writer):
    """The columns of the CSV, typed. Written at the end: a Parquet file without its last bytes cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def write(self, row: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
        import numpy as np

        found = {
            name: np.asarray(value, "f4") if isinstance(value, list) else value
            for name, value in flat(_renamed(row, cells)).items()
        }
        self.rows.append({**cells, **found})

    def close(self) -> None:
        import pyarrow
        from pyarrow import parquet

        names = list(dict.fromkeys(name for row in self.rows for name in row))
        columns = {}
        for name in names:
            values = [row.get(name) for row in self.rows]
            try:
                columns[name] = pyarrow.array(values)
            except (pyarrow.ArrowException, TypeError, ValueError):  # a column of the user's with several types
                columns[name] = pyarrow.array([None if value is None else _own_text(value) for value in values])
        with atomic_path(self.path) as draft:
            parquet.write_table(pyarrow.table(columns), draft)


def _renamed(row: Mapping[str, Any], cells: Mapping[str, Any]) -> dict[str, Any]:
    """The prediction of a row of a table: its file is the table's, and what the table has too is `predicted_NAME`."""
    if not cells:
        return dict(row)
    named = {}
    for name, value in row.items():
        if name != "file":
            while name in cells:
                name = PREDICTED + name
            named[name] = value
    return named


WRITERS: dict[str, Callable[[Emit], Writer]] = {
    "table": TableWriter,
    "csv": CsvWriter,
    "json": JsonWriter,
    "jsonl": JsonLinesWriter,
}
