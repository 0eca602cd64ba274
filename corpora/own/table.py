"""Your own data as a table: CSV, TSV, JSON lines or Parquet, one row per utterance.

Columns: `file` and at least one target (`emotion`, `gender`, `arousal`, `valence`, `dominance` or a column of your
own); `speaker`, `start` and `end` (seconds), `session`, `split` and `text` if known; `corpus`, if there are several:
speaker 01 of one is not 01 of another; `votes`, the number of raters by label: `angry:3;neutral:1`, in JSON lines and
Parquet also an object; `series`, a CSV of `time` (seconds into the audio file) and values over time; `video`, the file
with the pictures, where that is not the audio file, and `boxes`, a CSV of the faces in them. Other columns are
kept, whatever their names; see `undertone.corpora.own.labels` for what a cell means. Paths are relative to the table's
folder, or to --root, and must then be inside it.

Messages number rows as a spreadsheet or an editor does: the header of a CSV is row 1.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import DIMENSIONS, FILES
from undertone.corpora.own.labels import Labels

TARGETS = ("emotion", "gender", *DIMENSIONS, "votes", "series")
COLUMNS = ("file", "speaker", *TARGETS, "start", "end", "session", "split", "text", "corpus", "video", "boxes")

TEXT_FORMATS = (".csv", ".tsv")

_READ = ("speaker", "gender", "session", "split", "text", "corpus", *DIMENSIONS)
_PLAIN = re.compile(r"(?![/.])(?:[^/\\]|/(?![/.]))+(?<!/)")  # a relative path that pathlib leaves as it is
_SEPARATOR = re.compile(r"\s*sep=(.)\s*", re.IGNORECASE)

Row = tuple[int, dict[str, Any]]
"""A row's number and its cells; empty ones are None."""


class Table(Corpus):
    """Your own data: file, speaker, emotion, ..., one row per utterance."""

    licence = "your own"
    hub_licence = "unknown"
    citation = "your own"
    default_protocol = "auto"
    confined = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        self.url = str(path)
        self.default_root = path.parent

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        if not os.path.isfile(self.path):  # also False for an invalid path
            raise ValueError(f"No such table: {self.path}. Give the path of a .csv, .tsv, .jsonl or .parquet file.")
        if not root.is_dir():
            raise ValueError(
                f"{self.path.name}: no such folder: {root}. Give --root the folder its files are relative to."
            )
        rows = read_table(self.path)
        if not rows:
            raise ValueError(f"{self.path} has no rows. Each row gives a file and its labels.")
        names = dict.fromkeys(name for _, cells in rows for name in cells)
        self._check_columns(list(names))
        labels = Labels(str(self.path), [number for number, _ in rows], self.path.suffix.lower() not in TEXT_FORMATS)
        columns = {name: [cells.get(name) for _, cells in rows] for name in (*COLUMNS, *names)}
        read = {name: labels.read(name, columns[name]) for name in _READ}
        read["emotion"], read["votes"] = labels.emotions(columns["emotion"], columns["votes"])
        own = {name: labels.own(name, columns[name]) for name in names if name not in COLUMNS}
        self.notes = labels.notes
        extra = {name: values for name, values in own.items() if values is not None}
        located = _Located(root)
        for row, (number, cells) in enumerate(rows):
            if cells.get("file") is None:
                raise ValueError(f"{self.path.name}, row {number}: no file. Every row needs one.")
            start, end = (self._time(number, cells, name) if name in names else None for name in ("start", "end"))
            name, path = located(str(cells["file"]))
            files = {column: cells.get(column) for column in FILES}
            yield {
                **{name: values[row] for name, values in read.items()},
                "id": id_of(name, start, end),
                "path": path,
                "start": start,
                "end": end,
                "corpus": read["corpus"][row] or self.name,
                **{column: located(str(file))[1] if file else None for column, file in files.items()},
                "extra": {name: values[row] for name, values in extra.items()},
            }

    def _check_columns(self, columns: list[str]) -> None:
        """Refuse a table without file or target, and a column that looks like one of `COLUMNS` misspelt."""
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

    def _time(self, row: int, cells: Mapping[str, Any], column: str) -> float | None:
        value = cells.get(column)
        try:
            number = None if value is None else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if number is not None and not math.isfinite(number):
            raise ValueError(f"{self.path}, row {row}: {column} is {value!r}; it must be seconds, or empty.")
        return number


def read_table(path: Path) -> list[Row]:
    """The rows of a table, by its ending .csv, .tsv, .jsonl or .parquet.

    Raises:
        ValueError: the file is not such a table; the message names it, and the row where there is one.
    """
    readers = {".csv": _read_text, ".tsv": _read_text, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    try:
        return [
            (number, {name: _cell(value) for name, value in cells.items()})
            for number, cells in readers[path.suffix.lower()](path)
        ]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from error
    except csv.Error as error:
        raise ValueError(f"{path} is not a table of text: {error}. Save it as CSV, in UTF-8.") from error


def _read_text(path: Path) -> list[Row]:
    """CSV or TSV; the separator is the comma, semicolon or tab that is most frequent in the header.

    Excel's files are read too: UTF-16, and a first line such as `sep=;`.
    """
    encoding = "utf-16" if path.read_bytes()[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    with path.open(encoding=encoding, newline="") as file:
        lines = list(file)
    header = lines[0] if lines else ""
    named = _SEPARATOR.fullmatch(header)
    skipped = 1 if named else 0
    separator = named[1] if named else max(",;\t", key=header.count)
    reader = csv.reader(lines[skipped:], delimiter=separator, skipinitialspace=True)
    names = [name.strip() for name in next(reader, ())]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path} has two columns {twice[0]!r}. Rename or remove one.")
    rows: list[Row] = []
    for cells in filter(None, reader):  # an empty line is no row
        number = reader.line_num + skipped
        if len(cells) != len(names):
            raise ValueError(
                f"{path}, row {number}: {len(cells)} cells under a header of {len(names)}. "
                f"Put a cell that holds the separator in double quotes."
            )
        rows.append((number, dict(zip(names, cells, strict=True))))
    return rows


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                cells = json.loads(line)
                json.dumps(cells, ensure_ascii=False).encode()  # fails for a lone surrogate, which is no text
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
    """A stripped value; None for an empty cell or NaN."""
    value = value.strip() if isinstance(value, str) else value
    return None if value == "" or (isinstance(value, float) and math.isnan(value)) else value


class _Located:
    """The path of a file below the root, for its id, and its whole path; with slashes if it was written on Windows."""

    def __init__(self, root: Path) -> None:
        self.root, self.before = root, str(root / "x")[:-1]

    def __call__(self, text: str) -> tuple[str, str]:
        if _PLAIN.fullmatch(text) and not (self.before and text.startswith(self.before)):
            return text, self.before + text  # what follows takes pathlib 30 us
        path, other = Path(text), Path(text.replace("\\", "/"))
        if other != path and not (self.root / path).exists() and (self.root / other).exists():
            path = other
        below = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        return below.as_posix(), str(self.root / path)


def id_of(name: str, start: float | None, end: float | None) -> str:
    """The file, and the span if there is one: `calls/01.wav`, `calls/01.wav#1.5-3.2`."""
    return name if start is None and end is None else f"{name}#{start or 0:.10g}-{'' if end is None else f'{end:.10g}'}"
