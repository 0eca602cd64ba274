"""Splits in files: our own tables and manifests, and the split files of other tools.

    CSV, TSV      a header, as nkululeko, autrainer and audformat write it
    JSON lines    EmoBox: `{"key": ..., "dataset": ..., "wav": ..., "emo": ...}`, in folders `fold_1`, `fold_2`, ...
    JSON          s3prl: `{"labels": ..., "meta_data": [{"path": ..., "label": ..., "speaker": ...}]}`, a folder a fold;
                  SpeechBrain: `{id: {"wav": ..., "emo": ...}}`

Audio is looked for under the root by the end of its path, whatever folder the other tool had it in. With a corpus, each
file is looked up there by its name instead, and speaker, sentence, emotion and audio are those of the corpus: EmoBox
names no speakers, and SpeechBrain no sentences.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from undertone.corpora import load_corpus
from undertone.corpora.corpus import Corpus, read_rows
from undertone.corpora.manifest import FILE_NAME, Manifest, listed
from undertone.corpora.own.labels import GENDERS, SPLITS
from undertone.corpora.prepare import prepare

Folds = dict[str, dict[str, Manifest]]
"""{fold: {train, dev or test: its utterances}}."""

PARTS = ("train", "dev", "test")
FILE = ("file", "wav", "path", "filename", "file_name", "audio", "audio_path")
COLUMNS = {
    "speaker": ("speaker", "spk", "speaker_id", "spk_id"),
    "gender": ("gender", "sex"),
    "emotion": ("emotion", "emo", "label"),
    "text": ("text", "sentence", "transcription", "transcript"),
    "split": ("split", "partition", "subset"),
    "start": ("start", "start_time"),
    "end": ("end", "end_time"),
    "corpus": ("corpus", "dataset"),
}
"""What other tools call a field of `Utterance`."""

_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
_MEANINGS = {
    "gender": {word: gender for gender, words in GENDERS.items() for word in words},
    "split": {word: part for part, words in SPLITS.items() for word in words},
}
Progress = Callable[[int, int], None]


def read_folds(
    paths: Sequence[str], corpus: str | None = None, root: Path | None = None, progress: Progress | None = None
) -> tuple[Folds, list[str]]:
    """The folds of a split, and sentences on what could not be read of it.

    Args:
        paths: TRAIN and TEST; TRAIN, DEV and TEST; one file with a column `split`; or one folder with a folder a fold,
            whose files have train, dev (or valid) and test in their names.
        corpus: a corpus in which the files are looked up.
        root: folder of the audio; of the corpus, if there is one. None: that of each split file.
        progress: called with (files done, number of files) while audio is read.

    Raises:
        ValueError: no such file, no part of that name, or a file that is no split file.
    """
    source = prepare(load_corpus(corpus), root, progress=progress).manifest if corpus is not None else None
    notes: list[str] = []

    def read(path: str | Path) -> Manifest:
        manifest, found = _read(Path(path), source, root, progress)
        notes.extend(note for note in found if note not in notes)
        return manifest

    if len(paths) > 3:
        raise ValueError(f"A split has two or three parts, got {len(paths)} files. Give TRAIN TEST, or TRAIN DEV TEST.")
    if len(paths) > 1:
        names = ("train", "test") if len(paths) == 2 else PARTS
        return {"": {name: read(path) for name, path in zip(names, paths, strict=True)}}, notes
    (path,) = map(Path, paths)
    if path.is_dir() and not (path / FILE_NAME).is_file():
        return {name: {part: read(file) for part, file in files.items()} for name, files in _folders(path)}, notes
    manifest = read(path)
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, part in enumerate(manifest.column("split")):
        rows[part].append(row)
    if not {"train", "test"} <= rows.keys():
        raise ValueError(f"{path} has no column split with train and test. Give two files: TRAIN TEST.")
    return {"": {part: Manifest(manifest.dataset.select(rows[part])) for part in PARTS if part in rows}}, notes


def _folders(folder: Path) -> Iterator[tuple[str, dict[str, Path]]]:
    """(fold, {part: file}) of each folder with split files; of one part in two formats, the first of `_SUFFIXES`."""
    found: defaultdict[Path, dict[str, Path]] = defaultdict(dict)
    files = [path for path in (*folder.glob("*"), *folder.glob("*/*")) if path.suffix.lower() in _SUFFIXES]
    for path in sorted(files, key=lambda path: (_SUFFIXES.index(path.suffix.lower()), path)):
        words = re.split(r"[^a-z]+", path.stem.lower())
        if part := next((_MEANINGS["split"][word] for word in words if word in _MEANINGS["split"]), None):
            found[path.parent].setdefault(part, path)
    whole = {path: parts for path, parts in found.items() if {"train", "test"} <= parts.keys()}
    if not whole:
        raise ValueError(f"{folder} has no folder with a train and a test file ({', '.join(_SUFFIXES)}).")
    for path in sorted(whole, key=lambda path: [int(word) if word.isdigit() else word for word in _words(path.name)]):
        yield path.name, {part: whole[path][part] for part in PARTS if part in whole[path]}


def _words(name: str) -> list[str]:
    return re.findall(r"\d+|\D+", f"_{name}")  # text first, so that names compare


def _read(
    path: Path, source: Manifest | None, root: Path | None, progress: Progress | None
) -> tuple[Manifest, list[str]]:
    """The utterances of one file, and notes; from `source` where there is one."""
    rows, suffix = [], path.suffix.lower()
    if path.is_file() and suffix in _SUFFIXES:
        try:
            rows = _rows(path)
        except ValueError:
            if source is not None or suffix == ".json":
                raise
    named = {_name(row): row for row in rows if _name(row)}
    if source is None and suffix != ".json" and (not named or "file" in rows[0]):  # our own, or nothing at all
        if (path / FILE_NAME).is_file():
            return Manifest.load(path), []
        return prepare(load_corpus(str(path)), root, progress=progress).manifest, []
    if not named:
        raise ValueError(f"{path} is no split file: its rows name no audio, as one of {', '.join(FILE)} does.")
    notes = []
    if unnamed := sum(not _name(row) for row in rows):
        notes.append(f"{path.name}: {unnamed} rows name no audio and are left out.")
    if repeated := len(rows) - unnamed - len(named):
        notes.append(f"{path.name}: {repeated} rows repeat another one.")
    if source is not None:
        found, missing = _looked_up(named, source)
        if missing:
            notes.append(f"{path.name}: {len(missing)} of {len(named)} files are not in the corpus: {listed(missing)}.")
        if not found:
            raise ValueError(f"{path}: none of its {len(named)} files is in the corpus. {listed(missing, 3)}")
        return Manifest.from_rows(path.stem, found), notes
    split, folder = SplitFile(path, named), root or path.parent
    if not any(row["path"].is_file() for row in split.rows(folder)):
        notes.append(
            f"{path.name}: none of its audio is under {folder}, so recordings are not compared, and there is no "
            f"fingerprint. Give its folder (--root), or the corpus too (--corpus)."
        )
        return Manifest.from_rows(path.stem, split.rows(folder)), notes
    prepared = prepare(split, folder, progress=progress)
    return prepared.manifest, notes + [f"skipped {name}: {reason}" for name, reason in prepared.broken]


def _name(row: Mapping[str, Any]) -> str:
    """The file of a row, with its span where it has one; "" without a file."""
    name = next((str(row[key]) for key in FILE if row.get(key)), "")
    span = [_field(row, field) for field in ("start", "end")]
    return name if not name or span == [None, None] else f"{name}#{span[0] or 0}-{span[1] or ''}"


def _field(row: Mapping[str, Any], field: str) -> str | None:
    """A field of `Utterance` in a row, whatever the row calls it."""
    cell = next((str(row[key]).strip() for key in COLUMNS[field] if row.get(key)), None)
    return cell if cell is None or field not in _MEANINGS else _MEANINGS[field].get(cell.casefold())


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file as it names their cells."""
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return [dict(row) for _, row in read_rows(path, (), delimiter="\t" if suffix == ".tsv" else ",")]
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = (
            [json.loads(line) for line in text.splitlines() if line.strip()] if suffix == ".jsonl" else json.loads(text)
        )
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"Cannot read the split file {path}: {error}.") from error
    if isinstance(content, dict):
        content = content["meta_data"] if "meta_data" in content else list(content.values())
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ValueError(f"{path} is no split file: its rows are no objects with a file and labels.")
    return content


def _looked_up(named: Mapping[str, Mapping[str, Any]], source: Manifest) -> tuple[list[dict[str, Any]], list[str]]:
    """The corpus' own rows of these files, and the files that it has not, or twice."""
    by_stem: defaultdict[str, list[Any]] = defaultdict(list)
    for utterance in source:
        by_stem[Path(utterance.path).stem].append(utterance)
    found, missing = {}, []
    for name, row in named.items():
        path = Path(name.partition("#")[0])
        same = by_stem[path.stem]
        if len(same) > 1:  # files called alike, each in the folder of its speaker
            same = [one for one in same if Path(one.path).parent.name == path.parent.name]
        if len(same) == 1:
            found[same[0].id] = asdict(same[0]) | {"split": _field(row, "split")}
        else:
            missing.append(name)
    return list(found.values()), missing


class SplitFile(Corpus):
    """The rows of another tool's split file, and the audio that they name."""

    licence = "see its corpus"
    citation = "see its corpus"
    confined = True

    def __init__(self, path: Path, named: Mapping[str, Mapping[str, Any]]) -> None:
        self.name, self.url, self.default_root = path.stem, str(path), path.parent
        self.named = named

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        for name, row in self.named.items():
            known: dict[str, Any] = {field: _field(row, field) for field in COLUMNS}
            known |= {field: float(known[field]) for field in ("start", "end") if known[field] is not None}
            path = _located(name.partition("#")[0], root)
            yield {**known, "corpus": known["corpus"] or self.name, "id": name, "path": path}


def _located(name: str, root: Path) -> Path:
    """The file under the root whose path ends as the name does, the longest end first; else the name under it."""
    parts = [part for part in Path(name).parts if part != "/" and not part.startswith("{")]
    ends = (root.joinpath(*parts[first:]) for first in range(len(parts)))
    return next((path for path in ends if path.is_file()), root.joinpath(*parts))
