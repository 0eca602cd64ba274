"""What reading the audio of utterances gave, kept in an Arrow table: an unchanged file is not read again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from undertone.common.files import atomic_path

MEASURED_FILE = "measured.arrow"
Segment = tuple[str, float | None, float | None]
"""Absolute path of a file, and the seconds in it at which an utterance starts and ends."""


class Measured(NamedTuple):
    """What reading one utterance's audio gave.

    Attributes:
        sample_rate: Hz.
        channels: of the file.
        peak: largest absolute sample.
        duration: seconds.
        audio_hash: of the samples.
        size: bytes of the file.
        mtime_ns: modification time of the file, ns.
        landmarks: (M,) uint64 from `undertone.corpora.overlap.landmarks`.
    """

    sample_rate: int
    channels: int
    peak: float
    duration: float
    audio_hash: str
    size: int
    mtime_ns: int
    landmarks: np.ndarray


def segments_of(rows: Iterable[Mapping[str, Any]]) -> list[Segment]:
    """The segments of rows of a corpus."""
    here = os.getcwd()
    return [(os.path.join(here, row["path"]), row.get("start"), row.get("end")) for row in rows]


def save_measured(path: Path, found: Mapping[Segment, Measured]) -> None:
    """Write the table atomically."""
    import pyarrow

    names, starts, ends = zip(*found, strict=True)
    columns: dict[str, Any] = dict(zip(Measured._fields, zip(*found.values(), strict=True), strict=True))
    marks = columns.pop("landmarks")
    offsets = np.cumsum([0, *map(len, marks)], dtype=np.int32)
    table = pyarrow.table(
        {
            "path": [os.fsencode(name) for name in names],  # a name may be no UTF-8
            "start": pyarrow.array(starts, pyarrow.float64()),
            "end": pyarrow.array(ends, pyarrow.float64()),
            **columns,
            "landmarks": pyarrow.ListArray.from_arrays(offsets, np.concatenate([np.zeros(0, np.uint64), *marks])),
        }
    )
    with (
        atomic_path(path) as draft,
        pyarrow.OSFile(str(draft), "wb") as sink,
        pyarrow.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


def load_measured(path: Path) -> dict[Segment, Measured]:
    """Read the table that `save_measured` wrote; empty where there is none, or a damaged one."""
    import pyarrow

    try:
        with pyarrow.OSFile(str(path)) as source:
            table = pyarrow.ipc.open_file(source).read_all().combine_chunks()
        table.validate(full=True)
        names = map(os.fsdecode, table["path"].to_pylist())
        segments = zip(names, table["start"].to_pylist(), table["end"].to_pylist(), strict=True)
        marks = table["landmarks"].combine_chunks()
        values = marks.values.to_numpy().astype(np.uint64, casting="no")
        ends = marks.offsets.to_numpy().tolist()
        columns = [table[name].to_pylist() for name in Measured._fields[:-1]]
        parts = [values[first:last] for first, last in zip(ends, ends[1:], strict=False)]
        return dict(zip(segments, map(Measured, *columns, parts), strict=True))
    except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException):  # its files are read again
        return {}
