"""What `undertone predict` is given (files, folders, patterns, tables, standard input), as recordings."""

from __future__ import annotations

import codecs
import glob
import io
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertone.corpora import TABLE_SUFFIXES

if TYPE_CHECKING:
    from undertone.inference.recordings import Recording

Named = tuple["Recording", Mapping[str, Any]]
"""A recording, and the cells of the table that names it: {} where none does."""

STDIN = "-"
FILE_COLUMNS = ("file", "path")  # of a table; the first that there is
_LOOKED_AT = 4096  # bytes of standard input that tell names from audio


def inputs_of(words: Sequence[str], stack: ExitStack, note: Callable[[str], None]) -> list[Named] | Iterator[Named]:
    """The recordings that the words name, in order; an iterator where their names arrive on standard input.

    Args:
        words: files, folders with all their subfolders, patterns such as `calls/**/*.wav`, tables (.csv, .tsv, .jsonl,
            .parquet), folders that `undertone prepare` wrote, and `-`, standard input: an audio file, or names of
            files, one a line.
        stack: closed when all is read; a temporary file lives as long.
        note: takes a sentence about files that are left out.

    Raises:
        ValueError: nothing to predict; a table that cannot be read, or has no column of files.
    """
    if STDIN in words:
        if len(words) > 1:
            raise ValueError(f"- is standard input, alone; got {len(words)} words. Give names on it too, one a line.")
        return _standard_input(stack)
    found = [named for word in words for named in _named(word, len(words) == 1, note)]
    if not found:
        raise ValueError(f"There is nothing to predict in {', '.join(words)}.")
    return found


def _named(word: str, alone: bool, note: Callable[[str], None]) -> Iterable[Named]:
    """The recordings of one word; beside other words an empty folder or pattern is reported as a file is."""
    from undertone.corpora.manifest import FILE_NAME
    from undertone.inference.recordings import Recording

    path = Path(word)
    try:
        if os.path.isdir(word):
            return _prepared(path) if (path / FILE_NAME).is_file() else _folder(path, note)
        if path.suffix.lower() in TABLE_SUFFIXES:
            return _table(path)
        if glob.has_magic(word) and not os.path.exists(word):
            matches = sorted(glob.glob(word, recursive=True))
            if not matches:
                raise ValueError(f"No file matches {word!r}.")
            folders = {Path(match) for match in matches if os.path.isdir(match)}  # with all that is in them
            matches = [match for match in matches if folders.isdisjoint(Path(match).parents)]
            return [named for match in matches for named in _named(match, False, note)]
    except ValueError:
        if alone or path.suffix.lower() in TABLE_SUFFIXES:
            raise
    return [(Recording(word, path), {})]


def _folder(folder: Path, note: Callable[[str], None]) -> list[Named]:
    """The audio files of a folder and its subfolders."""
    from undertone.audio.containers import SUFFIXES
    from undertone.corpora.corpus import AUDIO_SUFFIXES
    from undertone.corpora.own.audio_folder import audio_files
    from undertone.inference.recordings import Recording

    files, left_out = audio_files(folder, AUDIO_SUFFIXES + SUFFIXES)
    for line in left_out:
        note(f"note: {folder}: {line}")
    return [(Recording(str(file), file), {}) for file in files]


def _table(path: Path) -> Iterator[Named]:
    """The rows of a table; its paths are relative to its folder."""
    from undertone.corpora.own.table import read_table
    from undertone.inference.recordings import Recording

    if not path.is_file():
        raise ValueError(f"No such table: {path}.")
    rows = read_table(path)
    if not rows:
        raise ValueError(f"{path} has no rows. Each row names a file.")
    column = next((name for name in FILE_COLUMNS if name in rows[0][1]), None)
    if column is None:
        raise ValueError(f"{path} has no column 'file'. Its columns: {', '.join(rows[0][1])}.")
    for number, cells in rows:
        if cells.get(column) is None:
            raise ValueError(f"{path}, row {number}: no file. Every row needs one.")
        start, end = (_seconds(path, number, cells, name) for name in ("start", "end"))
        name = str(cells[column])
        video, boxes = (str(path.parent / str(cells[key])) if cells.get(key) else None for key in ("video", "boxes"))
        yield Recording(name, path.parent / name, start, end, video, boxes), cells


def _seconds(path: Path, row: int, cells: Mapping[str, Any], column: str) -> float | None:
    value = cells.get(column)
    try:
        number = None if value is None else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise ValueError(f"{path}, row {row}: {column} is {value!r}; it must be seconds, or empty.")
    return number


def _prepared(folder: Path) -> Iterator[Named]:
    """The utterances of a manifest that `undertone prepare` wrote."""
    from undertone.corpora.manifest import LABELS, Manifest
    from undertone.inference.recordings import Recording

    for item in Manifest.load(folder):
        cells = {name: getattr(item, name) for name in ("id", "path", "start", "end", *LABELS)} | dict(item.extra)
        cells["path"] = str(cells["path"])
        yield Recording(cells["path"], item.path, item.start, item.end, item.video, item.boxes), cells


def _standard_input(stack: ExitStack) -> list[Named] | Iterator[Named]:
    """The audio file that standard input is, or the files that its lines name."""
    from undertone.inference.recordings import Recording

    stream = sys.stdin.buffer
    stream = stream if hasattr(stream, "peek") else io.BufferedReader(stream)
    first = stream.peek(_LOOKED_AT)
    if not first:
        raise ValueError("Standard input is empty. Send an audio file, or names of files, one a line.")
    if _is_text(first):
        lines = (line.decode("utf-8", "surrogateescape").rstrip("\r\n") for line in stream)
        return ((Recording(line, Path(line)), {}) for line in lines if line)
    file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="undertone-"))
    shutil.copyfileobj(stream, file)
    file.flush()
    return [(Recording(STDIN, Path(file.name)), {})]


def _is_text(start: bytes) -> bool:
    """Whether bytes can begin a list of names: UTF-8 without a zero, which every kind of audio file has early on."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return b"\0" not in start
