"""The manifest: a corpus as a memory-mapped Arrow table, one row per utterance."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from undertone.common.files import atomic_path

if TYPE_CHECKING:
    from datasets import Dataset

FILE_NAME = "manifest.arrow"
DIMENSIONS = ("arousal", "valence", "dominance")

_JSON_COLUMNS = ("votes", "extra")  # of any shape, so kept as text
FILES = ("series", "video", "boxes")  # columns that name a file beside the audio
_MACHINE_COLUMNS = ("path", *FILES, "size", "mtime_ns")  # differ between machines that hold the same corpus
_REPEATED = ("corpus", "speaker", "gender", "emotion", "session", "split", "text", "overlap")  # few different values
_BATCH = 10_000  # rows that iterating reads at once
_DERIVED = ("overlap",)  # follow from the others
_LATER = {"overlap": "", "video": None, "boxes": None}  # columns that older manifests lack, in order, and what they had
LABELS = ("emotion", "speaker", "gender", "session", "split", "text", "corpus", *DIMENSIONS)
"""Fields that hold a label. Any other label is a user-defined column, in `Utterance.extra`, whatever its name."""

Speaker = tuple[str, str]
"""(corpus, speaker): `01` of one corpus is not `01` of another."""


@dataclass(frozen=True)
class Utterance:
    """One labelled segment of audio of one speaker. What is unknown is None.

    Attributes:
        id: unique in its manifest.
        path: the audio file.
        corpus: the name of its corpus.
        start: seconds into the file; None = the beginning.
        end: seconds into the file; None = its end.
        duration: seconds.
        speaker: unique in its corpus.
        gender: `female` or `male`.
        emotion: adjective in lower case: `angry`, `happy`, `neutral`, `sad`, ...
        session: recording session, for leave-one-session-out.
        split: `train`, `dev` or `test`, where the corpus defines them.
        text: transcription, or a code of the sentence.
        arousal: 0..1.
        valence: 0..1.
        dominance: 0..1.
        votes: number of raters by label.
        series: file of a time-continuous annotation.
        audio_hash: SHA-256 of the decoded samples (`undertone.corpora.prepare.hash_audio`).
        size: bytes of the file.
        mtime_ns: modification time of the file, ns.
        extra: user-defined columns by name, in a namespace of their own: one called `duration` is not the field.
        overlap: id of the first of all utterances that share audio with this one; "" = none does.
        video: file with the pictures; None = the audio file, where that is a video.
        boxes: file of the faces in them (`undertone.audio.video.read_pictures`); None = the middle of each picture.
    """

    id: str
    path: str
    corpus: str = ""
    start: float | None = None
    end: float | None = None
    duration: float = 0.0
    speaker: str | None = None
    gender: str | None = None
    emotion: str | None = None
    session: str | None = None
    split: str | None = None
    text: str | None = None
    arousal: float | None = None
    valence: float | None = None
    dominance: float | None = None
    votes: dict[str, float] | None = None
    series: str | None = None
    audio_hash: str = ""
    size: int = 0
    mtime_ns: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    overlap: str = ""
    video: str | None = None
    boxes: str | None = None

    def label(self, name: str) -> Any:
        """One of `LABELS`, or a user-defined column; None if there is neither."""
        return getattr(self, name) if name in LABELS else self.extra.get(name)

    def with_label(self, name: str, value: Any) -> Utterance:
        """The same utterance with another value for `label(name)`."""
        return replace(self, **({name: value} if name in LABELS else {"extra": {**self.extra, name: value}}))


COLUMNS = tuple(column.name for column in fields(Utterance))
_FIELDS: dict[str, Any] = {column.name: column.default for column in fields(Utterance)} | {"extra": {}}


class Manifest:
    """The utterances of a corpus, in order; rows are read from disk on access."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        """The table; `votes` and `extra` hold JSON."""

    @classmethod
    def from_rows(cls, corpus: str, rows: Iterable[Mapping[str, Any]]) -> Manifest:
        """Build a manifest in memory.

        Args:
            corpus: name of the corpus, for rows without one.
            rows: `Utterance` fields, of which `id` and `path` are required.

        Raises:
            ValueError: there are no rows, ids repeat, or a row has an unknown field or a value of another type.
        """
        from datasets import Dataset, DatasetInfo
        from datasets.table import InMemoryTable
        from pyarrow import ArrowException, Table

        rows = list(rows)
        if not rows:
            raise ValueError(f"The manifest of {corpus!r} would be empty: there is no usable utterance.")
        for row in rows:
            if not (row.keys() <= _FIELDS.keys() and row.get("id") and row.get("path")):
                raise ValueError(f"A row of {corpus!r} has {_wrong(row)}. User-defined columns belong in `extra`.")
        if repeated := [name for name, count in Counter(row["id"] for row in rows).items() if count > 1]:
            raise ValueError(f"Ids must be unique; {len(repeated)} repeat in {corpus!r}: {listed(repeated)}.")
        defaults = _FIELDS | {"corpus": corpus}
        try:
            columns = {name: [row.get(name, defaults[name]) for row in rows] for name in COLUMNS}
            columns["path"] = [str(path) for path in columns["path"]]
            for name in _JSON_COLUMNS:
                columns[name] = [_json(value) for value in columns[name]]
            arrays = [_array(columns[field.name], field.type) for field in _features().arrow_schema]
            table = InMemoryTable(Table.from_arrays(arrays, COLUMNS))
            return cls(Dataset(table, info=DatasetInfo(features=_features())))
        except (ArrowException, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"The manifest of {corpus!r} cannot hold a value: {error}. Correct its labels.") from error

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the manifest atomically into `folder`, which is created if needed."""
        import pyarrow

        path, table = Path(folder) / FILE_NAME, self.dataset.data.table
        with (
            atomic_path(path) as draft,
            pyarrow.OSFile(str(draft), "wb") as sink,
            pyarrow.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table)
        return path

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Manifest:
        """Map the manifest that `save` wrote into `folder`.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        import pyarrow
        from datasets import Dataset, DatasetInfo
        from datasets.table import InMemoryTable, MemoryMappedTable

        path = Path(folder) / FILE_NAME
        if not path.is_file():
            raise ValueError(
                f"No manifest in {folder} (no {FILE_NAME}). `undertone prepare CORPUS --out {folder}` makes one."
            )
        table = _read_table(path)
        mapped: Any = MemoryMappedTable(table, str(path))
        for name in (name for name in _LATER if name not in table.column_names):  # written before there was one
            table = table.append_column(name, _array([_LATER[name]] * len(table), pyarrow.string()))
            mapped = InMemoryTable(table)
        return cls(Dataset(mapped, info=DatasetInfo(features=_features())))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Utterance:
        return _from_arrow(self.dataset[row])

    def __iter__(self) -> Iterator[Utterance]:
        return _utterances(self.dataset.data.table)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """All ids, in order."""
        return tuple(self.column("id"))

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    @cached_property
    def speaker_names(self) -> dict[str, str | None]:
        """{id: speaker}, as `corpus/speaker` if there are several corpora: no two speakers share a name."""
        corpora = self.column("corpus")
        several = len(set(corpora)) > 1
        return {
            name: f"{corpus}/{speaker}" if several and speaker is not None else speaker
            for name, corpus, speaker in zip(self.ids, corpora, self.column("speaker"), strict=True)
        }

    @cached_property
    def speaker_index(self) -> SpeakerIndex:
        """What folds are made from, by id."""
        return SpeakerIndex(self)

    @cached_property
    def extra_columns(self) -> tuple[str, ...]:
        """Names of the user-defined columns."""
        return tuple(sorted({name for extra in self.column("extra") for name in extra}))

    def column(self, name: str) -> list[Any]:
        """One value per utterance, in order, of a field of `Utterance`; a ValueError lists the fields."""
        if name in _JSON_COLUMNS:
            return [_object(text) for text in self.dataset.data.table[name].to_pylist()]
        if name not in COLUMNS:
            raise ValueError(f"An utterance has no field {name!r}. It has {', '.join(COLUMNS)}.")
        values = self.dataset.data.table[name]
        return _shared(values) if name in _REPEATED else list(values.to_pylist())

    def labels(self, name: str) -> list[Any]:
        """One value per utterance, in order, of one of `LABELS` or a user-defined column; a ValueError lists both."""
        if name in LABELS:
            return self.column(name)
        if name not in self.extra_columns:
            names = ", ".join([*LABELS, *self.extra_columns])
            raise ValueError(f"The manifest has no label {name!r}. It has {names}.")
        return [extra.get(name) for extra in self.column("extra")]

    def select(self, ids: Iterable[str]) -> list[Utterance]:
        """The utterances of these ids, in the order given; a ValueError names ids that are not in the manifest."""
        ids = list(ids)
        if unknown := [name for name in ids if name not in self._rows]:
            raise ValueError(f"{len(unknown)} of {len(ids)} ids are not in the manifest: {listed(unknown)}.")
        rows = np.array([self._rows[name] for name in ids], np.int64)
        return list(_utterances(self.dataset.data.table.take(rows)))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of ids, audio and labels, independent of where the files are and of the order of rows."""
        names = [name for name in COLUMNS if name not in (*_MACHINE_COLUMNS, *_DERIVED)]
        rows = sorted(zip(*(self.column(name) for name in names), strict=True))
        digest = hashlib.sha256(json.dumps(names).encode())
        for row in rows:
            digest.update(json.dumps(row, sort_keys=True).encode())
        return digest.hexdigest()


class ById(Mapping[str, Any]):
    """One value for each utterance id; all columns share one index of rows, which keeps a million rows small."""

    def __init__(self, rows: Mapping[str, int], column: Sequence[Any]) -> None:
        self._rows, self._column = rows, column

    def __getitem__(self, name: str) -> Any:
        return self._column[self._rows[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def of(self, names: Iterable[str]) -> list[Any]:
        """The values of many ids at once, which takes a quarter of the time."""
        column = self._column
        return [column[row] for row in map(self._rows.__getitem__, names)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class SpeakerIndex:
    """The columns that folds are made from, by utterance id; speakers and sessions as (corpus, label)."""

    def __init__(self, manifest: Manifest) -> None:
        def column(name: str) -> ById:
            return ById(manifest._rows, manifest.column(name))

        def in_corpus(name: str) -> ById:
            shared: dict[tuple[str, str], tuple[str, str]] = {}
            pairs = zip(manifest.column("corpus"), manifest.column(name), strict=True)
            found = [None if label is None else (str(home), label) for home, label in pairs]
            return ById(manifest._rows, [None if pair is None else shared.setdefault(pair, pair) for pair in found])

        self.ids = manifest.ids
        self.corpus = column("corpus")
        spelt = cache(sentence_key)
        self.text = ById(manifest._rows, [spelt(text) for text in manifest.column("text")])
        self.speaker, self.session = in_corpus("speaker"), in_corpus("session")
        self.gender, self.emotion, self.split = column("gender"), column("emotion"), column("split")
        self.audio_hash, self.overlap = column("audio_hash"), column("overlap")

    def speakers_of(self, ids: Iterable[str]) -> set[Speaker]:
        """The known speakers of these utterances."""
        return set(self.speaker.of(ids)) - {None}

    def by_speaker(self, ids: Iterable[str]) -> dict[Speaker, list[str]]:
        """Utterances of each known speaker, speakers in sorted order."""
        units, ids = defaultdict(list), list(ids)
        for name, speaker in zip(ids, self.speaker.of(ids), strict=True):
            if speaker is not None:
                units[speaker].append(name)
        return {speaker: units[speaker] for speaker in sorted(units)}


def _read_table(path: Path) -> Any:
    """The table that `save` wrote, validated: Arrow trusts a file, and a wrong offset crashes the process."""
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as source:
            table = pyarrow.ipc.open_stream(source).read_all().replace_schema_metadata(None)
        table.validate(full=True)
        expected = _features().arrow_schema
        known = [pyarrow.schema(list(expected)[: len(expected) - fewer]) for fewer in range(len(_LATER) + 1)]
        if not any(table.schema.equals(schema) for schema in known):
            raise ValueError(f"its columns are {', '.join(table.column_names) or 'none'}")
        ids = table["id"].to_pylist()
        if None in ids or len(set(ids)) < len(ids) or table["path"].null_count or table["corpus"].null_count:
            raise ValueError("its ids, paths and corpora must be there, and the ids unique")
        for name, kind in (("votes", dict | None), ("extra", dict)):
            if not all(isinstance(json.loads(text), kind) for text in table[name].unique().to_pylist()):
                raise ValueError(f"its column {name} does not hold objects")
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged, or no manifest: {error}. Remove it: a run then writes its own again, and "
            f"`undertone prepare CORPUS --out {path.parent}` makes one."
        ) from error
    return table


def _wrong(row: Mapping[str, Any]) -> str:
    unknown = sorted(set(row) - set(COLUMNS))
    what = f"unknown fields {', '.join(unknown)}" if unknown else "no id or no path"
    return f"{what}: {dict(row)}"


def _json(value: Any) -> str:
    """JSON of an object; of the two values that most rows have without the encoder, whose call takes 4 us."""
    return "null" if value is None else json.dumps(value, sort_keys=True, default=str) if value else "{}"


def _array(values: list[Any], kind: Any) -> Any:
    """An Arrow array of a type; a value of another one is converted, so that speaker 3 is `3`."""
    import pyarrow

    try:
        return pyarrow.array(values, kind)
    except (pyarrow.ArrowException, TypeError):
        convert = str if pyarrow.types.is_string(kind) else float if pyarrow.types.is_floating(kind) else int
        return pyarrow.array([None if value is None else convert(value) for value in values], kind)


def _from_arrow(row: Mapping[str, Any]) -> Utterance:
    return Utterance(**{**row, "votes": _object(row["votes"]), "extra": _object(row["extra"])})


def _utterances(table: Any) -> Iterator[Utterance]:
    for batch in table.to_batches(max_chunksize=_BATCH):
        columns = batch.to_pydict() | {name: _shared(batch[name]) for name in _REPEATED}
        for row in zip(*columns.values(), strict=True):
            yield _from_arrow(dict(zip(columns, row, strict=True)))


def _object(text: str) -> Any:
    """What `_json` wrote."""
    return None if text == "null" else {} if text == "{}" else json.loads(text)


def _shared(column: Any) -> list[Any]:
    """The values of an Arrow column of strings; equal ones are one object, as a million rows have few speakers."""
    import pyarrow

    whole = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    encoded = whole.dictionary_encode()
    names = [*encoded.dictionary.to_pylist(), None]
    return [names[place] for place in encoded.indices.fill_null(len(names) - 1).to_pylist()]


def _features() -> Any:
    """Arrow types of `COLUMNS`, so that a column without values has its type too."""
    from datasets import Features, Value

    types = dict.fromkeys(COLUMNS, "string")
    types |= dict.fromkeys(("start", "end", "duration", *DIMENSIONS), "float64")
    types |= dict.fromkeys(("size", "mtime_ns"), "int64")
    return Features({name: Value(kind) for name, kind in types.items()})


def sum_votes(votes: Iterable[tuple[str, float]], names: Mapping[str, str]) -> dict[str, float]:
    """(label, votes) pairs under other names, {label: name}; those of one name add up, a label without one stays."""
    total: defaultdict[str, float] = defaultdict(float)
    for label, count in votes:
        total[names.get(label, label)] += count
    return dict(total)


def sentence_key(text: str | None) -> str:
    """What all spellings of a sentence share, its letters and digits: `Don't go!` -> `don t go`; "" without any."""
    return " ".join("".join(letter if letter.isalnum() else " " for letter in (text or "").casefold()).split())


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first names, for a message."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
