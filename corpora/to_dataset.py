"""A manifest as a Hugging Face dataset: Parquet files with the audio in them, or its paths, and a card; to the Hub.

`datasets.load_dataset(FOLDER)` and `hf:./FOLDER` read it. Columns: `audio`, `id`, and what of the manifest is labelled;
`votes` as in a table, `angry:3;neutral:1`. The splits are those of the corpus, or one called train.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from undertone.audio.read import read_samples
from undertone.common.files import new_folder
from undertone.common.hub_client import check_repo_id, hub_errors, signed_in
from undertone.corpora import corpus_names, load_corpus
from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import DIMENSIONS, FILES, Manifest, Utterance
from undertone.corpora.to_audformat import sentences_on_loss

SHARD_BYTES = 500 * 10**6
_ROWS = 100  # of a row group: what a reader must hold at once
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
_FIELDS = ("corpus", "speaker", "gender", "emotion", "session", "text", *DIMENSIONS)


def write_dataset(corpus: Corpus, manifest: Manifest, folder: Path, embed: bool) -> list[str]:
    """Write the dataset into a new folder.

    Args:
        corpus: of the manifest, for the card.
        manifest: the utterances.
        folder: it must not exist, or be empty.
        embed: put the audio into the files, each file as it is, a segment of a file as 32-bit wav; otherwise the
            dataset holds paths, and is of use on this machine alone.

    Returns:
        sentences on what is left out.

    Raises:
        ValueError: the folder is not empty, or segments of files are not embedded.
    """
    spans = sum(start is not None or end is not None for start, end in _spans(manifest))
    if spans and not embed:
        raise ValueError(
            f"{spans} of {len(manifest)} utterances are segments of files, and a dataset of paths holds whole files. "
            f"Embed the audio: --embed."
        )
    columns = _columns(manifest)
    with new_folder(folder) as draft:
        (draft / "data").mkdir()
        for split, numbers in _splits(manifest).items():
            _write_split(manifest, numbers, columns, draft / "data", split, embed)
        (draft / "README.md").write_text(_card(corpus, manifest, embed), encoding="utf-8")
    return sentences_on_loss(manifest, FILES, _hidden(manifest))


def check_published(corpus: Corpus, manifest: Manifest) -> None:
    """Refuse to publish recordings whose licence does not allow it; the message quotes it."""
    owners = {name: load_corpus(name) for name in set(manifest.column("corpus")) & set(corpus_names())}
    for owner in (corpus, *owners.values()):
        if not owner.hub_licence:
            raise ValueError(
                f"The recordings of {owner.name} may not be published by you: its licence is {owner.licence!r} "
                f"({owner.url}). Keep the dataset on this machine: --to-dataset DIR."
            )


def push_dataset(folder: Path, repo_id: str) -> str:
    """Upload what `write_dataset` wrote in one commit; a new repository is private. Returns the commit's URL.

    Raises:
        ValueError: a malformed `repo_id`, or no token.
        HubError: the Hub refused, or could not be reached.
    """
    from huggingface_hub import HfApi

    check_repo_id(repo_id)
    api = HfApi(token=signed_in(), library_name="undertone")
    with hub_errors(repo_id):
        api.create_repo(repo_id, repo_type="dataset", private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=folder,
            delete_patterns="data/*.parquet",
            commit_message="Push a corpus with Undertone",
        )
    return str(commit.commit_url)


def _spans(manifest: Manifest) -> Iterator[tuple[float | None, float | None]]:
    return zip(manifest.column("start"), manifest.column("end"), strict=True)


def _splits(manifest: Manifest) -> dict[str, list[int]]:
    """{name of a split: its rows}; one split where the manifest does not divide all of its utterances."""
    splits = manifest.column("split")
    if not set(splits) <= _SPLITS.keys():
        return {"train": list(range(len(splits)))}
    rows: dict[str, list[int]] = {name: [] for name in _SPLITS}
    for row, split in enumerate(splits):
        rows[split].append(row)
    return {_SPLITS[name]: numbers for name, numbers in rows.items() if numbers}


def _columns(manifest: Manifest) -> dict[str, str]:
    """{column: type} of those that hold something; a user-defined column of mixed values is text."""
    types = {"id": "string"}
    for name in _FIELDS:
        if any(value is not None for value in manifest.column(name)):
            types[name] = "float64" if name in DIMENSIONS else "string"
    if any(manifest.column("votes")):
        types["votes"] = "string"
    hidden = _hidden(manifest)
    for name in (name for name in manifest.extra_columns if name not in hidden):
        kinds = {type(value) for value in manifest.labels(name) if value is not None}
        types[name] = "bool" if kinds == {bool} else "float64" if kinds and kinds <= {int, float} else "string"
    return types


def _hidden(manifest: Manifest) -> list[str]:
    """User-defined columns that would be read back as fields."""
    return [name for name in manifest.extra_columns if name in (*_FIELDS, "audio", "id", "split", "votes")]


def _write_split(
    manifest: Manifest, numbers: Sequence[int], columns: Mapping[str, str], folder: Path, split: str, embed: bool
) -> None:
    import pyarrow
    from datasets import Audio, Features, Value
    from pyarrow import parquet

    schema = Features({"audio": Audio(), **{name: Value(kind) for name, kind in columns.items()}}).arrow_schema
    shard, written, writer = 0, SHARD_BYTES, None
    for first in range(0, len(numbers), _ROWS):
        items = manifest.select([manifest.ids[row] for row in numbers[first : first + _ROWS]])
        if written >= SHARD_BYTES:
            if writer is not None:
                writer.close()
            writer = parquet.ParquetWriter(folder / f"{split}-{shard:05d}.parquet", schema)
            shard, written = shard + 1, 0
        rows = [_row(item, columns, embed) for item in items]
        batch = pyarrow.Table.from_pylist(rows, schema)
        written += batch.nbytes
        assert writer is not None
        writer.write_table(batch)
    if writer is not None:
        writer.close()


def _row(item: Utterance, columns: Mapping[str, str], embed: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"audio": _audio(item, embed), "id": item.id}
    for name, kind in columns.items():
        if name in _FIELDS:
            row[name] = item.label(name)
        elif name == "votes":
            row[name] = ";".join(f"{label}:{count:g}" for label, count in (item.votes or {}).items()) or None
        elif name != "id":
            value = item.extra.get(name)
            row[name] = value if value is None or isinstance(value, str) or kind != "string" else json.dumps(value)
    return row


def _audio(item: Utterance, embed: bool) -> dict[str, Any]:
    if not embed:
        return {"bytes": None, "path": item.path}
    path = Path(item.path)
    if item.start is None and item.end is None:
        return {"bytes": path.read_bytes(), "path": path.name}
    buffer = io.BytesIO()
    soundfile.write(buffer, *read_samples(path, item.start, item.end), format="WAV", subtype="FLOAT")
    return {"bytes": buffer.getvalue(), "path": f"{path.stem}-{item.start or 0:g}.wav"}


def _card(corpus: Corpus, manifest: Manifest, embed: bool) -> str:
    import yaml

    files = [{"split": name, "path": f"data/{name}-*"} for name in _splits(manifest)]
    about: dict[str, Any] = {"license": corpus.hub_licence} if corpus.hub_licence else {}
    about |= {"task_categories": ["audio-classification"], "tags": ["speech-emotion-recognition", "undertone"]}
    about |= {"configs": [{"config_name": "default", "data_files": files}]}
    hours = sum(manifest.column("duration")) / 3600
    where = "in the files" if embed else "as paths of the machine that wrote this"
    return f"""---
{yaml.safe_dump(about, sort_keys=False)}---
# {corpus.name}

{len(manifest)} utterances, {hours:.2f} hours; the audio is {where}. Written by Undertone from {corpus.url}.

- Licence: {corpus.licence}
- Cite: {corpus.citation}

Folds by speaker, trained and tested: `undertone crossval hf:user/name`.
"""
