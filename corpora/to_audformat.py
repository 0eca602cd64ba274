"""A manifest as an audformat database, the interchange format of audb: one table `utterances` of files or segments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from undertone.common.files import new_folder
from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import DIMENSIONS, FILES, Manifest

TABLE = "utterances"
_TEXTS = ("corpus", "emotion", "session", "split", "text")
_KINDS = {bool: "bool", int: "float", float: "float"}


def audformat_module() -> Any:
    """The package audformat, or a ValueError that says how to get it."""
    try:
        import audformat
    except ImportError as error:
        raise ValueError("audformat tables need the package audformat: pip install undertone[audformat].") from error
    return audformat


def write_audformat(corpus: Corpus, manifest: Manifest, folder: Path) -> list[str]:
    """Write the database into a new folder; files keep their absolute paths.

    The gender is a property of the speaker, in the labels of its scheme, as in audb's databases; speakers of unknown
    gender have none. What may be done with the recordings is left to the licence, so that `usage` is `other`.

    Returns:
        sentences on what is left out: votes and files beside the audio, for which audformat has no column, and columns
        called as ours.

    Raises:
        ValueError: the folder is not empty, the package is missing, or a speaker has two genders.
    """
    audformat = audformat_module()
    files, starts, ends = (manifest.column(name) for name in ("path", "start", "end"))
    database = audformat.Database(
        name="".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in corpus.name),
        source=corpus.url,
        usage=audformat.define.Usage.OTHER,
        description=corpus.citation,
        license=corpus.licence,
    )
    if any(value is not None for value in (*starts, *ends)):
        index = audformat.segmented_index(
            files, [_seconds(one or 0.0) for one in starts], [_seconds(one) for one in ends]
        )
    else:
        index = audformat.filewise_index(files)
    database[TABLE] = table = audformat.Table(index)

    def add(name: str, values: list[Any], scheme: Any) -> None:
        database.schemes[name] = scheme
        table[name] = audformat.Column(scheme_id=name)
        table[name].set(values)

    for name in _TEXTS:
        values = manifest.column(name)
        if found := sorted({value for value in values if value is not None}):
            add(name, values, audformat.Scheme("str", labels=found if name in ("emotion", "split") else None))
    for name in DIMENSIONS:
        values = manifest.column(name)
        if any(value is not None for value in values):
            add(name, values, audformat.Scheme("float", minimum=0, maximum=1))
    if speakers := _speakers(manifest):
        add("speaker", list(manifest.speaker_names.values()), audformat.Scheme("str", labels=speakers))
    hidden = [name for name in manifest.extra_columns if name in database.schemes]
    for name in (name for name in manifest.extra_columns if name not in hidden):
        values = manifest.labels(name)
        kinds = {type(value) for value in values if value is not None}
        kind = _KINDS[kinds.pop()] if len(kinds) == 1 and kinds <= _KINDS.keys() else "str"
        values = [value if value is None or kind != "str" else str(value) for value in values]
        add(name, values, audformat.Scheme(kind))
    with new_folder(folder) as draft:
        database.save(str(draft), storage_format="csv")
    return sentences_on_loss(manifest, ("votes", *FILES), hidden)


def sentences_on_loss(manifest: Manifest, fields: Sequence[str], columns: Sequence[str]) -> list[str]:
    """What another format leaves out: these fields, where they hold something, and columns that are called as one."""
    counts = {name: sum(value is not None for value in manifest.column(name)) for name in fields}
    found = [f"{name} of {count} utterances left out: the format has none" for name, count in counts.items() if count]
    return found + ([f"columns left out, whose names are those of fields: {', '.join(columns)}"] if columns else [])


def _speakers(manifest: Manifest) -> dict[str, dict[str, str]]:
    """{speaker: {gender: its gender}} for the labels of the scheme."""
    found: dict[str, dict[str, str]] = {}
    for speaker, gender in zip(manifest.speaker_names.values(), manifest.column("gender"), strict=True):
        if speaker is None:
            continue
        about = found.setdefault(speaker, {})
        if gender is not None and about.setdefault("gender", gender) != gender:
            raise ValueError(f"Speaker {speaker} is {about['gender']} and {gender}: correct it.")
    return found


def _seconds(value: float | None) -> Any:
    import pandas

    return pandas.NaT if value is None else pandas.Timedelta(value, unit="s")
