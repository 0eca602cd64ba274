"""A Hugging Face dataset: `hf:user/name` on the Hub, `hf:./folder` on disk (files or `save_to_disk`).

Columns with the names of our fields are used as they are; options name others: `corpus.emotion=label
corpus.speaker=spk`. Numbers of a ClassLabel become its names; see `undertone.corpora.own.labels` for what other cells
mean. `corpus` and `votes` are read as in a table where they are text.
Other columns of plain values are kept as user-defined columns; those of lists are left out with a note. Without
`corpus.split` all splits are read, and train, validation and test become the column `split`.

`datasets` decodes nothing, so neither torchcodec nor ffmpeg is needed. Audio that is embedded in the dataset's files is
written once, unchanged, into --root (by default a folder of the cache), named by its SHA-256, because a manifest holds
paths. It is then read with soundfile like any other file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from undertone.common.discovery import nearest
from undertone.common.files import draft_folder, safe_name
from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import DIMENSIONS
from undertone.corpora.own.labels import SPLITS, Labels

if TYPE_CHECKING:
    from datasets import Dataset

CACHE = Path("~/.cache/undertone/hf")
FIELDS = ("emotion", "speaker", "gender", "session", "text", *DIMENSIONS)
_WRITTEN = ("corpus", "votes")  # by `undertone prepare --to-dataset`; columns of text
_PLAIN = ("string", "large_string", "bool", "int", "uint", "float")


class HfDataset(Corpus):
    """A Hugging Face dataset; corpus.emotion=COLUMN names its columns."""

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
        """Set the options; `rows` loads the dataset.

        Args:
            where: a folder, or an id on the Hub.
            subset: the configuration, if there are several.
            split: the only one to read.
            revision: branch, tag or commit on the Hub.
            audio: column of the audio.
            emotion: column; None: `emotion`, if there is one. The same holds for the others.
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
        """See `Corpus.rows`; writes embedded audio into `root`."""
        splits = self._splits()
        columns = {split: self._columns(table) for split, table in splits.items()}
        numbers = [number for table in splits.values() for number in range(len(table))]
        labels = Labels(self.where, numbers, typed=True)
        fields = list(dict.fromkeys(field for names in columns.values() for field in names))
        cells = {field: self._cells({split: columns[split].get(field) for split in splits}, splits) for field in fields}
        emotions, votes = (cells.pop(field, [None] * len(numbers)) for field in ("emotion", "votes"))
        values = {field: labels.read(field, cells[field]) for field in cells}
        values["emotion"], values["votes"] = labels.emotions(emotions, votes)
        own = self._own(labels, splits, {self.audio, *(name for names in columns.values() for name in names.values())})
        self.notes = labels.notes
        names = {alias: name for name, aliases in SPLITS.items() for alias in aliases}
        places = ((split, number) for split, table in splits.items() for number in range(len(table)))
        audio = (row[self.audio] for table in splits.values() for row in self._undecoded(table))
        for place, ((split, number), cell) in enumerate(zip(places, audio, strict=True)):
            yield {
                "id": f"{split}/{number:06d}",
                "path": self._path(cell, root, number),
                "split": names.get(split.lower()) if self.split is None else None,
                **{field: found[place] for field, found in values.items()},
                "corpus": values["corpus"][place] if "corpus" in values else self.name,
                "extra": {name: found[place] for name, found in own.items()},
            }

    def _splits(self) -> dict[str, Dataset]:
        import datasets

        if not self.is_local:
            from undertone.common.hub_client import limit_waiting

            limit_waiting()
        else:
            _check_stays(Path(self.where))
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
                f"Cannot load the dataset {self.where!r}: {reason}. "
                f"Give hf:user/name of the Hub, or hf:./folder, and corpus.subset=NAME if it has several."
            ) from error
        splits = dict(found) if isinstance(found, dict) else {str(found.split or "all"): found}
        if self.split is not None and self.split not in splits:
            raise ValueError(f"{self.where} has no split {self.split!r}.{nearest(self.split, splits)}")
        return {name: table for name, table in splits.items() if self.split in (None, name)}

    def _columns(self, table: Dataset) -> dict[str, str]:
        """{field of `Utterance`: column} of those that are present."""
        import datasets

        present = table.column_names
        wanted = {"audio": self.audio, **self.columns}
        for field, name in wanted.items():
            if name not in present:
                raise ValueError(
                    f"{self.where} has no column {name!r}.{nearest(name, present)} Choose one: corpus.{field}=COLUMN."
                )
        texts = [name for name in _WRITTEN if name in present and table.features[name] == datasets.Value("string")]
        return {field: field for field in (*FIELDS, *texts) if field in present} | self.columns

    def _undecoded(self, table: Dataset) -> Dataset:
        """The table with its audio as {bytes, path}."""
        import datasets

        feature = table.features[self.audio]
        try:
            if isinstance(feature, dict):
                raise TypeError("a struct would be encoded")
            return table.with_format(None).cast_column(self.audio, datasets.Audio(decode=False))
        except (TypeError, ValueError, NotImplementedError) as error:
            kind = f"{{{', '.join(feature)}}}" if isinstance(feature, dict) else type(feature).__name__
            advice = "Cast it to datasets.Audio() before it is saved, or choose" if "array" in kind else "Choose"
            raise ValueError(
                f"{self.where}: the column {self.audio!r} holds no audio files, but {kind}. "
                f"{advice} another: corpus.audio=COLUMN."
            ) from error

    def _path(self, cell: Mapping[str, Any] | None, root: Path, number: int) -> Path:
        """The file of a row's audio, written if it does not exist."""
        if not cell or (cell["bytes"] is None and not cell["path"]):
            raise ValueError(f"{self.where}, row {number}: the column {self.audio!r} is empty. Every row needs audio.")
        if cell["bytes"] is None:
            return Path(cell["path"])
        path = root / safe_name(hashlib.sha256(cell["bytes"]).hexdigest() + Path(cell["path"] or "").suffix.lower())
        if not path.exists():
            root.mkdir(parents=True, exist_ok=True)
            with draft_folder(path) as beside:
                (beside / path.name).write_bytes(cell["bytes"])
                os.replace(beside / path.name, path)
        return path

    def _own(self, labels: Labels, splits: Mapping[str, Dataset], taken: set[str]) -> dict[str, list[Any]]:
        """User-defined columns; those without text or numbers are left out with a note."""
        features = {name: feature for table in splits.values() for name, feature in table.features.items()}
        own = {}
        for name, feature in features.items():
            kind = str(getattr(feature, "dtype", type(feature).__name__))
            if name in taken:
                continue
            if not hasattr(feature, "int2str") and kind.rstrip("0123456789") not in _PLAIN:
                labels.leave_out(name, kind)
                continue
            cells = self._cells({s: name if name in table.features else None for s, table in splits.items()}, splits)
            if (values := labels.own(name, cells)) is not None:
                own[name] = values
        return own

    def _cells(self, names: Mapping[str, str | None], splits: Mapping[str, Dataset]) -> list[Any]:
        """A column of all splits, by its name in each; None where it is absent."""
        return [
            cell
            for split, table in splits.items()
            for cell in ([None] * len(table) if names[split] is None else _column(table, str(names[split])))
        ]


def _column(table: Dataset, name: str) -> list[Any]:
    """A column, with the names of a ClassLabel's numbers; -1, which means no label, is None."""
    feature, cells = table.features[name], list(table.with_format(None)[name][:])
    if not hasattr(feature, "int2str"):
        return cells
    return [None if cell is None or cell < 0 else feature.int2str(cell) for cell in cells]


def _check_stays(folder: Path) -> None:
    """Refuse a local folder whose README.md makes `datasets` read a URL or files outside the folder."""
    import yaml

    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    block = text.lstrip("\ufeff").split("---", 2)
    if len(block) < 3 or block[0].strip():
        return
    try:
        settings = yaml.safe_load(block[1])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{card} begins with YAML that cannot be read. Fix it or remove the file.") from error
    for text in _texts(settings.get("configs") if isinstance(settings, dict) else None):
        path = PurePosixPath(text.replace("\\", "/"))
        if "::" in text or "://" in text or path.is_absolute() or ".." in path.parts or text.startswith("~"):
            raise ValueError(
                f"{card} lists {text!r} as data, which is not in the folder. Copy the files into the folder and list "
                f"them in README.md, or remove the entry."
            )


def _texts(value: Any) -> Iterator[str]:
    """All strings in nested lists and dicts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
