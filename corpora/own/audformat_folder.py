"""An audformat database, as audb loads it: `FOLDER` with db.yaml, tables, and the audio its paths name.

`corpus.table=NAME` chooses the table whose rows are the utterances, where several have emotions or dimensions. Columns
of our names (`emotion`, `speaker`, `gender`, `text`, `arousal`, ...) are read, also from other tables where the chosen
one lacks them; `gender` also from the labels of the speaker's scheme, `split` also from that of the table. Other
columns of the chosen table are kept. Dimensions are scaled to 0..1 by the minimum and maximum of their scheme.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.common.discovery import nearest
from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import DIMENSIONS
from undertone.corpora.own.labels import Labels
from undertone.corpora.own.table import id_of
from undertone.corpora.to_audformat import audformat_module

FILE_NAME = "db.yaml"
_FIELDS = ("emotion", "speaker", "gender", "session", "split", "text", "corpus", *DIMENSIONS)
_TARGETS = ("emotion", *DIMENSIONS)


class AudformatFolder(Corpus):
    """An audformat database; corpus.table=NAME names its table."""

    licence = "see its header"
    citation = "see its header"
    confined = True

    def __init__(self, path: Path, *, table: str | None = None) -> None:
        """Read the database.

        Args:
            path: the folder of db.yaml.
            table: whose rows are the utterances; None: the only one with emotions or dimensions.
        """
        self.database = _load(path)
        self.path, self.table = path, table
        self.name, self.url, self.default_root = str(self.database.name), str(self.database.source), path
        self.licence, self.citation = str(self.database.license or "not stated"), str(self.database.description or "")

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        import pandas

        audformat = audformat_module()
        database, name = self.database, self._table()
        index = database[name].index
        labels = Labels(str(self.path), range(1, len(index) + 1), typed=True)
        found = {field: cells for field in _FIELDS if (cells := _column(database, name, field, index)) is not None}
        values = {field: labels.read(field, _scaled(database, field, cells)) for field, cells in found.items()}
        own = {}
        for column in sorted(set(database[name].columns) - found.keys()):
            if (cells := labels.own(column, _plain(database[name][column].get()))) is not None:
                own[column] = cells
        self.notes = labels.notes
        spans = audformat.utils.to_segmented_index(index)
        for row, (file, start, end) in enumerate(spans):
            first, last = start.total_seconds(), None if pandas.isna(end) else end.total_seconds()
            first = None if first == 0 and last is None else first
            yield {
                "id": id_of(file, first, last),
                "path": root / file,
                "start": first,
                "end": last,
                **{field: cells[row] for field, cells in values.items()},
                "corpus": values["corpus"][row] if "corpus" in values else self.name,
                "extra": {column: cells[row] for column, cells in own.items()},
            }

    def _table(self) -> str:
        """The name of the table whose rows are the utterances."""
        known = self.database.tables
        tables = [name for name in known if set(known[name].columns) & set(_TARGETS)]
        if self.table is not None and self.table not in known:
            raise ValueError(f"{self.path} has no table {self.table!r}.{nearest(self.table, known)}")
        if self.table is None and len(tables) != 1:
            names = ", ".join(tables or known) or "none"
            raise ValueError(
                f"{self.path} has {len(tables)} tables with {', '.join(_TARGETS)}; tables: {names}. "
                f"Choose one: corpus.table=NAME."
            )
        return self.table or tables[0]


def _load(path: Path) -> Any:
    """The database, without what `audformat.Database.load` would run: Python objects in the header, pickled tables."""
    import yaml

    audformat = audformat_module()
    if pickles := sorted(path.glob("*.pkl")):
        raise ValueError(
            f"{pickles[0]} is a pickle, which may run code. Save the tables as CSV or Parquet, and remove it."
        )
    try:
        header = yaml.safe_load((path / FILE_NAME).read_text(encoding="utf-8"))
        database = audformat.Database.load_header_from_yaml(header)
        for name in (*database.misc_tables, *database.tables):
            database[name].load(str(path / f"db.{name}"))
    except Exception as error:  # a damaged file leads to any of Python's errors
        raise ValueError(f"{path} is no audformat database that can be read: {error}. Get it again.") from error
    return database


def _column(database: Any, table: str, field: str, index: Any) -> list[Any] | None:
    """The cells of a field, one for each row of the index; None where the database has none."""
    for name in (table, *(other for other in database.tables if other != table)):
        columns = database[name].columns
        if field == "split" and "split" not in columns and name == table and database[name].split_id:
            kind = database.splits[database[name].split_id].type
            return [kind] * len(index)
        if field in columns:
            return _plain(database[name][field].get(index))
        if field == "gender" and "speaker" in columns and _has_gender(database[name]["speaker"].scheme):
            return _plain(database[name]["speaker"].get(index, map="gender"))
    return None


def _has_gender(scheme: Any) -> bool:
    labels = scheme.labels if scheme is not None else None
    return isinstance(labels, dict) and any(isinstance(about, dict) and "gender" in about for about in labels.values())


def _plain(series: Any) -> list[Any]:
    import pandas

    return [None if pandas.isna(value) else value for value in series.astype(object)]


def _scaled(database: Any, field: str, cells: list[Any]) -> list[Any]:
    scheme: Any = database.schemes.get(field) if field in database.schemes else None
    if field not in DIMENSIONS or scheme is None or scheme.minimum is None or scheme.maximum is None:
        return cells
    low, high = float(scheme.minimum), float(scheme.maximum)
    return [None if cell is None else (float(cell) - low) / (high - low) for cell in cells]
