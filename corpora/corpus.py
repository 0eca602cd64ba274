"""The base class of corpora: where the files are, what their names and tables mean, how folds are made."""

from __future__ import annotations

import csv
import math
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from undertone.common.discovery import nearest
from undertone.corpora.folds import PROTOCOLS, Fold, make_folds, protocol_used, split_by_speaker
from undertone.corpora.manifest import Manifest
from undertone.corpora.measured import Measured, Segment

AUDIO_SUFFIXES = tuple(
    ".wav .wave .w64 .rf64 .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .sph .nist .voc".split()
)
"""Extensions of formats that libsndfile reads; it detects the format from the content."""

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")
"""Endings of videos, whose audio has to be extracted first."""


class Corpus(ABC):
    """A source of labelled speech. To add one, add a file to this package, or pass the path of your own file.

    Keyword-only arguments of the constructor are the corpus' options: `corpus.NAME=value` on the command line.

    Attributes:
        name: as in `undertone prepare NAME`.
        variant: which labels or part of the corpus, if it has several; shown after the name in results.
        licence: of the recordings.
        hub_licence: the Hub's name of the licence under which others may publish the recordings; "" = none allows it.
        url: where to get it.
        citation: what to cite.
        language: of the speech, in English.
        num_clips: of the complete release, where `expected` does not say it; None = it differs by release.
        hours: of audio in the complete release; None = not known here.
        num_speakers: likewise.
        num_classes: emotions, by default, likewise; None = it has none.
        pitfalls: of the release, of copies and of other tools; sentences.
        expected: {column: {value: count}} of the complete release; a difference is a warning, never an error.
        default_protocol: of cross-validation; see `undertone.corpora.folds`.
        own_protocols: additional ones that its `folds` knows.
        splits: {one of these: {dev or test: its speakers}}, of official splits by speaker; all others are train.
        default_root: where its files are if no root is given; None = a root is required.
        confined: whether paths come from a file that others may have written; all must then be inside a given root.
        notes: what the last `rows` changed or left out.
    """

    name: str
    variant: str = ""
    licence: str
    hub_licence: str = ""
    url: str
    citation: str
    language: str = ""
    num_clips: int | None = None
    hours: float | None = None
    num_speakers: int | None = None
    num_classes: int | None = None
    pitfalls: str = ""
    expected: dict[str, dict[Any, int]] = {}
    default_protocol: str = "auto"
    own_protocols: tuple[str, ...] = ()
    splits: dict[str, dict[str, tuple[str, ...]]] = {}
    default_root: Path | None = None
    confined: bool = False
    notes: Sequence[str] = ()

    @abstractmethod
    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        """One dict of `Utterance` fields per utterance: id, path and labels, without reading audio.

        Raises:
            ValueError: the folder, a table or a label is missing or malformed; the message says what was expected.
        """

    def measured(self) -> Mapping[Segment, Measured]:
        """What reading its files gave before, where that was kept beside a manifest."""
        return {}

    def folds(
        self, manifest: Manifest, protocol: str | None = None, num_folds: int | None = None, seed: int = 0
    ) -> list[Fold]:
        """Train, dev and test ids of each fold; see `make_folds`. A corpus with an official protocol extends this."""
        if protocol in self.splits and num_folds is None:
            return split_by_speaker(protocol, self.splits[protocol], manifest, seed)
        return make_folds(manifest, protocol or self.default_protocol, num_folds, seed)

    def protocol_used(self, manifest: Manifest, protocol: str | None = None, num_folds: int | None = None) -> str:
        """The protocol that `folds` uses, for the results: resolves `auto`, also where a number of folds implies it."""
        asked = protocol or (self.default_protocol if num_folds is None else "auto")
        return protocol_used(manifest, asked, num_folds)

    def check_protocol(self, protocol: str | None) -> None:
        """Refuse a protocol that `folds` does not know, with a ValueError, before the corpus is read."""
        known = [*PROTOCOLS, *self.own_protocols]
        if protocol is not None and protocol not in known:
            raise ValueError(f"{self.name} has no protocol {protocol!r}.{nearest(protocol, known)}")


def check_choice(corpus: str, option: str, value: object, allowed: Sequence[str]) -> None:
    """Refuse a value of a corpus option that is not allowed, with a ValueError that suggests the nearest."""
    if value not in allowed:
        raise ValueError(f"{corpus} has no {option}={value}.{nearest(str(value), allowed)}")


def beside(root: Path, *names: str | Path) -> Path | None:
    """The first of these files in the root or in its parent folder; None where there is none."""
    return next((path for folder in (root, root.parent) for name in names if (path := folder / name).is_file()), None)


def list_audio(*folders: Path, suffixes: Sequence[str] = AUDIO_SUFFIXES) -> tuple[list[Path], list[str]]:
    """The audio files in folders and their subfolders, sorted, without hidden ones; links to folders are not followed.

    `suffixes` are in lower case. Also gives a sentence that counts files of other formats by their extension, if there
    are any. A ValueError says that a folder cannot be read.
    """
    files = [
        path
        for folder in folders
        for path in _list_files(folder)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    audio = [path for path in files if path.suffix.lower() in suffixes]
    others = Counter(path.suffix.lower() or "no ending" for path in files) - Counter(p.suffix.lower() for p in audio)
    if not others:
        return audio, []
    endings = ", ".join(f"{count} {ending}" for ending, count in others.most_common(8))
    more = f" and {len(others) - 8} more endings" if len(others) > 8 else ""
    what = "file with another ending is" if others.total() == 1 else "files with other endings are"
    return audio, [
        f"{others.total()} {what} left out: {endings}{more}. Convert audio among them, to .flac for example."
    ]


def _list_files(root: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise ValueError(f"Cannot read the folder {error.filename}: {error.strerror}. You need read permission.")

    found = [os.path.join(folder, name) for folder, _, names in os.walk(root, onerror=refuse) for name in names]
    return [Path(path) for path in sorted(found, key=lambda path: path.split(os.sep))]


def find_audio(
    root: Path, stem: str, example: str, corpus: Corpus, parents: int = 0
) -> list[tuple[Path, re.Match[str]]]:
    """The audio files under `root` whose stem matches, sorted by stem.

    Args:
        root: folder that is searched with all its subfolders.
        stem: regular expression of the whole stem. The extension only tells audio from text.
        example: a file name of the corpus, for the messages.
        corpus: for the messages.
        parents: number of parent folders that belong to the name: `DC/a01` with 1.

    Raises:
        ValueError: the folder is missing, nothing matches, or two files have one name (two copies of the corpus).
    """
    if not root.is_dir():
        raise ValueError(f"{corpus.name}: no such folder: {root}. Give --root the folder with files such as {example}.")
    pattern = re.compile(stem)
    found: dict[str, tuple[Path, re.Match[str]]] = {}
    videos = []
    for path in _list_files(root):
        suffix = path.suffix.lower()
        if suffix not in AUDIO_SUFFIXES + VIDEO_SUFFIXES:
            continue
        name = "/".join((*path.parts[-1 - parents : -1], path.stem))
        match = pattern.fullmatch(name)
        if match is None:
            continue
        if suffix in VIDEO_SUFFIXES:
            videos.append(path)
            continue
        if name in found:
            raise ValueError(
                f"{corpus.name}: {name} is there twice: {found[name][0]} and {path}. "
                f"Give --root a folder with one copy of the corpus."
            )
        found[name] = path, match
    if not found and videos:
        raise ValueError(
            f"{corpus.name}: {len(videos)} videos such as {videos[0]} and no audio under {root}. Extract the audio of "
            f"each beside it, under the same name: ffmpeg -i {videos[0].name} -ac 1 -ar 16000 {videos[0].stem}.wav"
        )
    if not found:
        raise ValueError(
            f"{corpus.name}: no file such as {example} under {root}. "
            f"Give --root the corpus' folder; get it from {corpus.url}."
        )
    return [found[name] for name in sorted(found)]


def other_names(root: Path, files: Iterable[Path], example: str) -> Iterator[str]:
    """A sentence that counts the audio under `root` that is not among `files`; none where there is none."""
    known = set(files)
    others = [path for path in list_audio(root)[0] if path not in known]
    if others:
        names = ", ".join(path.name for path in others[:3]) + (", ..." if len(others) > 3 else "")
        one = len(others) == 1
        yield (
            f"{len(others)} audio file{'' if one else 's'} with {'another name' if one else 'other names'} than "
            f"{example} {'is' if one else 'are'} skipped: {names}."
        )


def fraction_of_scale(value: float, low: float, high: float) -> float | None:
    """A rating on the scale `low` to `high` as 0..1; one beyond the scale is set to its end, NaN is None."""
    return None if math.isnan(value) else min(max((value - low) / (high - low), 0.0), 1.0)


def read_rows(
    path: Path, columns: Sequence[str], delimiter: str = ",", quoted: bool = True
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a corpus' table with a header, blanks around its cells taken off.

    Args:
        path: the table; UTF-8, and what is none is replaced.
        columns: those that every row must have.
        delimiter: between cells.
        quoted: whether quotation marks enclose cells, or stand for themselves.

    Raises:
        ValueError: a column or a cell of one is missing, or the table cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
            header = [str(name).strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            if missing := [name for name in columns if name not in header]:
                raise ValueError(f"{path} has no column {missing[0]!r}, only: {', '.join(header) or 'none'}.")
            for row in reader:
                if cut := [name for name in columns if row.get(name) is None]:
                    raise ValueError(
                        f"{path}, line {reader.line_num}: the line ends before its {cut[0]}. Get it again."
                    )
                yield reader.line_num, {name: cell.strip() for name, cell in row.items() if isinstance(cell, str)}
    except (csv.Error, OSError) as error:
        raise ValueError(f"Cannot read the table {path}: {error}. Get it again from the corpus' owner.") from error
