"""Your own data as a table: CSV, TSV, JSON lines or Parquet, one row an utterance.

Columns: `file` and at least one target (`emotion`, `gender`, `arousal`, `valence`, `dominance` or a column of your
own); `speaker`, `start` and `end` (seconds), `session`, `split` and `text` where known; `corpus`, where the rows are of
several: speaker 01 of one is not 01 of another; `votes`, how many raters heard what: `angry:3;neutral:1`, in JSON lines
and Parquet also an object; `series`, a CSV of `time` (seconds into the sound file) and values over time. Other columns
are kept. An empty cell is a missing value. A file is relative to the table's own folder, or to --root, and must then
lie in it.

Rows are numbered in messages as a spreadsheet or an editor does: the header of a CSV is row 1.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import DIMENSIONS

GENDERS = {"female": ("f", "female", "w", "woman"), "male": ("m", "male", "man")}
SPLITS = {
    "train": ("train", "training"),
    "dev": ("dev", "development", "val", "valid", "validation"),
    "test": ("test", "testing"),
}
TARGETS = ("emotion", "gender", *DIMENSIONS, "votes", "series")
COLUMNS = ("file", "speaker", *TARGETS, "start", "end", "session", "split", "text", "corpus")

_JSON_NUMBER = re.compile(r"-?(0|[1-9]\d{0,307})(\.\d{1,307})?([eE][+-]?\d{1,3})?")

Row = tuple[int, dict[str, Any]]
"""A row's number and its cells; empty ones are None."""


class Table(Corpus):
    """Your own data: file, speaker, emotion, ..., one row an utterance."""

    licence = "your own"
    citation = "your own"
    default_protocol = "auto"
    confined = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        self.url = str(path)
        self.default_root = path.parent

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        """See `Corpus.rows`.

        Raises:
            ValueError: the table is missing, empty or not of its format; a column is missing or misspelt; a value is
                not allowed. Names the row.
        """
        if not os.path.isfile(self.path):  # False, too, for what is no name of a file
            raise ValueError(f"No such table: {self.path}. Give the path of a .csv, .tsv, .jsonl or .parquet file.")
        if not root.is_dir():
            raise ValueError(
                f"{self.path.name}: no such folder: {root}. Give --root the folder its files are relative to."
            )
        rows = list(_read(self.path))
        if not rows:
            raise ValueError(f"{self.path} has no rows. Each row gives a file and its labels.")
        columns = list(dict.fromkeys(name for _, cells in rows for name in cells))
        self._check_columns(columns)
        genders = self._normalised(rows, "gender", GENDERS)
        splits = self._normalised(rows, "split", SPLITS)
        for number, cells in rows:
            if cells.get("file") is None:
                raise ValueError(f"{self.path.name}, row {number}: no file. Every row needs one.")
            times = {name: self._number(number, cells, name) for name in ("start", "end")}
            path = Path(str(cells["file"]))
            yield {
                "id": _id(path, root, **times),
                "corpus": _text(cells.get("corpus")) or self.name,
                "path": root / path,
                **times,
                **{name: _text(cells.get(name)) for name in ("speaker", "emotion", "session", "text")},
                **{name: self._dimension(number, cells, name) for name in DIMENSIONS},
                "gender": genders.get(_text(cells.get("gender"))),
                "votes": self._votes(number, cells.get("votes")),
                "series": str(root / str(cells["series"])) if cells.get("series") else None,
                "split": splits.get(_text(cells.get("split"))),
                "extra": {name: cells.get(name) for name in columns if name not in COLUMNS},
            }

    def _check_columns(self, columns: list[str]) -> None:
        """Refuse a table without file or target, and a column of the user's own that is one of ours misspelt."""
        missing = [name for name in COLUMNS if name not in columns]
        own = [name for name in columns if name not in COLUMNS]
        for name in own:
            if near := get_close_matches(name.lower(), missing, n=1, cutoff=0.75):
                raise ValueError(
                    f"{self.path}: the column {name!r} looks like {near[0]!r}, which the table lacks. "
                    f"Rename it; a column of your own needs another name."
                )
        if "file" in missing or len(columns) == sum(name in columns for name in COLUMNS if name not in TARGETS):
            lack = "column 'file'" if "file" in missing else f"target: {', '.join(TARGETS)} or a column of your own"
            raise ValueError(
                f"{self.path} has no {lack}. Its columns: {', '.join(columns)}. Known: {', '.join(COLUMNS)}."
            )

    def _normalised(self, rows: list[Row], column: str, names: Mapping[str, tuple[str, ...]]) -> dict[str | None, str]:
        """{value of the table, as text: ours} for a column of few values."""
        ours = {alias: name for name, aliases in names.items() for alias in aliases}
        first = {value: number for number, cells in reversed(rows) if (value := _text(cells.get(column))) is not None}
        unknown = [value for value in first if value.lower() not in ours]
        if unknown:
            listed = ", ".join(
                f"{value!r} (row {first[value]})" for value in sorted(unknown, key=first.__getitem__)[:5]
            )
            raise ValueError(
                f"{self.path}: column {column} has {listed}; allowed: {', '.join(ours)}, or an empty cell if unknown."
            )
        return {value: ours[value.lower()] for value in first}

    def _number(self, row: int, cells: Mapping[str, Any], column: str) -> float | None:
        value = cells.get(column)
        try:
            number = None if value is None else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if number is not None and not math.isfinite(number):
            unit = "seconds" if column in ("start", "end") else "a number from 0 to 1"
            raise ValueError(f"{self.path}, row {row}: {column} is {value!r}; it must be {unit}, or empty.")
        return number

    def _votes(self, row: int, cell: Any) -> dict[str, float] | None:
        """{label: raters} of `angry:3;neutral:1` or of an object."""
        if cell is None:
            return None
        pairs = (
            cell.items()
            if isinstance(cell, Mapping)
            else (part.rpartition(":")[::2] for part in re.split("[;,]", str(cell)))
        )
        try:
            votes = {str(label).strip(): float(count) for label, count in pairs if count is not None}
        except (TypeError, ValueError, OverflowError):
            votes = {}
        if not votes or "" in votes or not all(math.isfinite(count) and count >= 0 for count in votes.values()):
            raise ValueError(
                f"{self.path}, row {row}: votes is {cell!r}; write how many raters heard what, as in angry:3;neutral:1."
            )
        return votes

    def _dimension(self, row: int, cells: Mapping[str, Any], column: str) -> float | None:
        value = self._number(row, cells, column)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(
                f"{self.path}, row {row}: {column} is {value:g}; it must be from 0 to 1. Rescale the whole column: "
                f"(value - lowest) / (highest - lowest) of its scale, so (value - 1) / 4 for ratings from 1 to 5."
            )
        return value


def _read(path: Path) -> Iterator[Row]:
    """The rows of a table of any of the formats."""
    readers = {".csv": _read_text, ".tsv": _read_text, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    try:
        for number, cells in readers[path.suffix.lower()](path):
            yield number, {name: _cell(value) for name, value in cells.items()}
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from error
    except csv.Error as error:
        raise ValueError(f"{path} is not a table of text: {error}. Save it as CSV, in UTF-8.") from error


def _read_text(path: Path) -> list[Row]:
    """CSV or TSV; a comma, a semicolon or a tab divides the cells, whichever the header has most of."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        file.seek(0)
        reader = csv.DictReader(file, delimiter=max(",;\t", key=header.count), skipinitialspace=True)
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        rows: list[Row] = []
        for cells in reader:
            if None in cells or None in cells.values():
                raise ValueError(
                    f"{path}, row {reader.line_num}: {_count(cells)} cells under a header of {len(reader.fieldnames)}. "
                    f"Put a cell that holds the separator in double quotes."
                )
            rows.append((reader.line_num, {str(name): value for name, value in cells.items()}))
    numeric = [name for name in reader.fieldnames if name not in COLUMNS and _is_numeric(name, rows)]
    return [(number, cells | {name: json.loads(cells[name] or "null") for name in numeric}) for number, cells in rows]


def _count(cells: Mapping[Any, Any]) -> int:
    return sum(value is not None for name, value in cells.items() if name is not None) + len(cells.get(None, ()))


def _is_numeric(column: str, rows: list[Row]) -> bool:
    """Whether a text column of the user's own holds numbers as JSON writes them (so `01` remains text)."""
    values = [cells[column] for _, cells in rows if cells[column]]
    return bool(values) and all(_JSON_NUMBER.fullmatch(value) for value in values)


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                cells = json.loads(line)
                json.dumps(cells, ensure_ascii=False).encode()  # an escaped half of a letter, which is no text
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, row {number} is not JSON: {error}.") from error
            if not isinstance(cells, dict):
                raise ValueError(
                    f'{path}, row {number}: expected an object such as {{"file": ...}}, got {line.strip()[:100]!r}.'
                )
            yield number, cells


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.ParquetFile(path).read().to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not a Parquet file: {error}.") from error
    return enumerate(rows, 1)


def _cell(value: Any) -> Any:
    """A stripped value; an empty cell and NaN are None."""
    value = value.strip() if isinstance(value, str) else value
    return None if value == "" or (isinstance(value, float) and math.isnan(value)) else value


def _text(value: Any) -> str | None:
    """A label as text: a speaker 3.0, which pandas makes of 3 where a cell is empty, is `3`."""
    return None if value is None else str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _id(path: Path, root: Path, start: float | None, end: float | None) -> str:
    """The file's path below the root, and the span if there is one: `calls/01.wav`, `calls/01.wav#1.5-3.2`."""
    name = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
    return name if start is None and end is None else f"{name}#{start or 0:.10g}-{'' if end is None else f'{end:.10g}'}"
