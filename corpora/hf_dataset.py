"""A Hugging Face `datasets` data set: `hf:user/name` on the Hub, `hf:./folder` on disk (files or `save_to_disk`).

Columns named as ours are taken as they are; the others are named by options: `corpus.emotion=label corpus.speaker=spk`.
Numbers of a ClassLabel become its names. Other columns of plain values are kept as columns of the user's own. Without
`corpus.split` all splits are read, and train, validation and test become the column `split`.

Nothing is decoded by `datasets`, so neither torchcodec nor ffmpeg is needed: where sound lies inside the data set's
files, its bytes are written once, as they are, into --root (by default a folder of the cache), named by their SHA-256,
because a manifest holds paths. They are then read with soundfile like any other file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import DIMENSIONS
from undertone.corpora.table import GENDERS, SPLITS
from undertone.discovery import nearest
from undertone.files import draft_folder, safe_name

if TYPE_CHECKING:
    from datasets import Dataset

CACHE = Path("~/.cache/undertone/hf")
FIELDS = ("emotion", "speaker", "gender", "session", "text", *DIMENSIONS)


class HfDataset(Corpus):
    """A Hugging Face data set; corpus.emotion=COLUMN names its columns."""

    licence = "see its page"
    citation = "see its page"

    def __init__(
        self,
        where: str,
        *,
        subset: str | None = None,
        split: str | None = None,
        revision: str | None = None,
        audio: str = "audio",
        emotion: str | None = None,
        speaker: str | None = None,
        gender: str | None = None,
        session: str | None = None,
        text: str | None = None,
        arousal: str | None = None,
        valence: str | None = None,
        dominance: str | None = None,
    ) -> None:
        """Describe the data set; `rows` fetches it.

        Args:
            where: a folder, or an id on the Hub.
            subset: the configuration of a data set that has several.
            split: the only one to read.
            revision: branch, tag or commit on the Hub.
            audio: column of the sound.
            emotion: column; None: `emotion`, if there is one. So are the others.
            speaker: column.
            gender: column of female / male, f / m, ...
            session: column.
            text: column.
            arousal: column, 0..1.
            valence: column, 0..1.
            dominance: column, 0..1.
        """
        self.where, self.subset, self.split, self.revision, self.audio = where, subset, split, revision, audio
        self.is_local = Path(where).exists()
        self.name = Path(where).resolve().name if self.is_local else where
        self.url = where if self.is_local else f"https://huggingface.co/datasets/{where}"
        self.default_root = CACHE.expanduser() / safe_name(self.name, safe="")
        names = (emotion, speaker, gender, session, text, arousal, valence, dominance)
        self.columns = {field: name for field, name in zip(FIELDS, names, strict=True) if name is not None}

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        """See `Corpus.rows`; writes sound that the data set holds itself into `root`.

        Raises:
            ValueError: the data set cannot be had; a column is missing or holds what it must not.
        """
        for split, table in self._splits().items():
            columns = self._columns(table)
            plain = _plain_columns(table, {*columns.values(), self.audio})
            names = {name: feature for name, feature in table.features.items() if hasattr(feature, "int2str")}
            for number, row in enumerate(self._undecoded(table)):
                values = {name: _named(names.get(name), row[name]) for name in (*columns.values(), *plain)}
                fields = {field: self._value(field, values[name], number) for field, name in columns.items()}
                yield {
                    "id": f"{split}/{number:06d}",
                    "path": self._path(row[self.audio], root, number),
                    "split": _ours(SPLITS, split) if self.split is None else None,
                    **fields,
                    "extra": {name: values[name] for name in plain},
                }

    def _splits(self) -> dict[str, Dataset]:
        """Every split that is asked for, by name."""
        import datasets

        if not self.is_local:
            from undertone.files.waiting import limit_waiting

            limit_waiting()
        saved = [Path(self.where) / name for name in ("state.json", "dataset_dict.json")]
        try:
            found: Any = (
                datasets.load_from_disk(self.where)
                if any(path.is_file() for path in saved)
                else datasets.load_dataset(self.where, self.subset, revision=self.revision)
            )
            tables = list(found.values()) if isinstance(found, dict) else [found]
            for table in tables:
                table.data.validate(full=True)  # Arrow trusts a file: one false offset would end the process
                if set(table.data.column_names) != set(table.features):
                    raise ValueError("its columns are not those that dataset_info.json describes")
        except Exception as error:  # a damaged state.json or dataset_info.json leads to any of Python's errors
            reason = str(error).partition("\n")[0].strip("\"'").rstrip(".")
            raise ValueError(
                f"Cannot load the data set {self.where!r}: {reason}. "
                f"Give hf:user/name of the Hub, or hf:./folder, and corpus.subset=NAME if it has several."
            ) from error
        splits = dict(found) if isinstance(found, dict) else {str(found.split or "all"): found}
        if self.split is not None and self.split not in splits:
            raise ValueError(f"{self.where} has no split {self.split!r}.{nearest(self.split, splits)}")
        return {name: table for name, table in splits.items() if self.split in (None, name)}

    def _columns(self, table: Dataset) -> dict[str, str]:
        """{field of ours: column} of those that are there."""
        present = table.column_names
        wanted = {"audio": self.audio, **self.columns}
        for field, name in wanted.items():
            if name not in present:
                raise ValueError(
                    f"{self.where} has no column {name!r}.{nearest(name, present)} Choose one: corpus.{field}=COLUMN."
                )
        return {field: field for field in FIELDS if field in present} | self.columns

    def _undecoded(self, table: Dataset) -> Dataset:
        """The table with its sound as {bytes, path}."""
        import datasets

        try:
            return table.with_format(None).cast_column(self.audio, datasets.Audio(decode=False))
        except (TypeError, ValueError, NotImplementedError) as error:
            kind = type(table.features[self.audio]).__name__
            raise ValueError(
                f"{self.where}: the column {self.audio!r} holds no sound, but {kind}. "
                f"Choose another: corpus.audio=COLUMN."
            ) from error

    def _path(self, sound: Mapping[str, Any] | None, root: Path, number: int) -> Path:
        """The file of a row's sound, written if it is not yet there."""
        if not sound or (sound["bytes"] is None and not sound["path"]):
            raise ValueError(f"{self.where}, row {number}: the column {self.audio!r} is empty. Every row needs sound.")
        if sound["bytes"] is None:
            return Path(sound["path"])
        path = root / safe_name(hashlib.sha256(sound["bytes"]).hexdigest() + Path(sound["path"] or "").suffix.lower())
        if not path.exists():
            root.mkdir(parents=True, exist_ok=True)
            with draft_folder(path) as beside:
                (beside / path.name).write_bytes(sound["bytes"])
                os.replace(beside / path.name, path)
        return path

    def _value(self, field: str, value: Any, number: int) -> Any:
        """A cell as the manifest wants it."""
        if value is None or value == "":
            return None
        if field in DIMENSIONS:
            if isinstance(value, int | float) and 0 <= value <= 1:
                return float(value)
            raise ValueError(
                f"{self.where}, row {number}: {field} is {value!r}; it must be from 0 to 1: rescale the column, "
                f"(value - lowest) / (highest - lowest) of its scale."
            )
        if field != "gender":
            return str(value)
        gender = _ours(GENDERS, str(value))
        if gender is None:
            allowed = ", ".join(alias for aliases in GENDERS.values() for alias in aliases)
            raise ValueError(f"{self.where}, row {number}: gender is {value!r}; allowed: {allowed}, or nothing.")
        return gender


def _named(feature: Any, value: Any) -> Any:
    """The name of a ClassLabel's number; -1, its sign of no label, is None. Other values as they are."""
    if feature is None or value is None:
        return value
    return feature.int2str(value) if value >= 0 else None


def _plain_columns(table: Dataset, taken: set[str]) -> list[str]:
    """The columns of text and numbers that are nobody's yet."""
    plain = ("string", "large_string", "bool", "int", "uint", "float")
    types = {name: str(getattr(feature, "dtype", "")) for name, feature in table.features.items()}
    return [name for name, kind in types.items() if name not in taken and kind.rstrip("0123456789") in plain]


def _ours(names: Mapping[str, tuple[str, ...]], value: str) -> str | None:
    return next((name for name, aliases in names.items() if value.lower() in aliases), None)
