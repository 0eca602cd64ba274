"""The base class of corpora: where the files are, what their names and tables mean, how folds are made."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from undertone.common.discovery import nearest
from undertone.corpora.folds import PROTOCOLS, Fold, make_folds, protocol_used
from undertone.corpora.manifest import Manifest

AUDIO_SUFFIXES = tuple(
    ".wav .wave .w64 .rf64 .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .sph .nist .voc".split()
)
"""Extensions of formats that libsndfile reads; it detects the format from the content."""


class Corpus(ABC):
    """A source of labelled speech. To add one, add a file to this package, or pass the path of your own file.

    Keyword-only arguments of the constructor are the corpus' options: `corpus.NAME=value` on the command line.

    Attributes:
        name: as in `undertone prepare NAME`.
        variant: which labels or part of the corpus, if it has several; shown after the name in results.
        licence: of the recordings.
        url: where to get it.
        citation: what to cite.
        expected: {column: {value: count}} of the complete release; a difference is a warning, never an error.
        default_protocol: of cross-validation; see `undertone.corpora.folds`.
        own_protocols: additional ones that its `folds` knows.
        default_root: where its files are if no root is given; None = a root is required.
        confined: whether paths come from a file that others may have written; all must then be inside a given root.
        notes: what the last `rows` changed or left out.
    """

    name: str
    variant: str = ""
    licence: str
    url: str
    citation: str
    expected: dict[str, dict[Any, int]] = {}
    default_protocol: str = "auto"
    own_protocols: tuple[str, ...] = ()
    default_root: Path | None = None
    confined: bool = False
    notes: Sequence[str] = ()

    @abstractmethod
    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        """One dict of `Utterance` fields per utterance: id, path and labels, without reading audio.

        Raises:
            ValueError: the folder is missing or has no files of this corpus; the message says what was expected.
        """

    def folds(
        self, manifest: Manifest, protocol: str | None = None, num_folds: int | None = None, seed: int = 0
    ) -> list[Fold]:
        """Train, dev and test ids of each fold; see `make_folds`. A corpus with an official protocol extends this."""
        return make_folds(manifest, protocol or self.default_protocol, num_folds, seed)

    def protocol_used(self, manifest: Manifest, protocol: str | None = None, num_folds: int | None = None) -> str:
        """The protocol that `folds` uses, for the results: resolves `auto`, also where a number of folds implies it."""
        asked = protocol or (self.default_protocol if num_folds is None else "auto")
        return protocol_used(manifest, asked, num_folds)

    def check_protocol(self, protocol: str | None) -> None:
        """Refuse a protocol that `folds` does not know, before the corpus is read.

        Raises:
            ValueError: an unknown protocol; the message suggests the nearest.
        """
        known = [*PROTOCOLS, *self.own_protocols]
        if protocol is not None and protocol not in known:
            raise ValueError(f"{self.name} has no protocol {protocol!r}.{nearest(protocol, known)}")


def check_choice(corpus: str, option: str, value: object, allowed: Sequence[str]) -> None:
    """Refuse a value of a corpus option that is not allowed.

    Raises:
        ValueError: the message suggests the nearest.
    """
    if value not in allowed:
        raise ValueError(f"{corpus} has no {option}={value}.{nearest(str(value), allowed)}")


def list_audio(*folders: Path) -> tuple[list[Path], list[str]]:
    """The audio files in folders and their subfolders, sorted, without hidden ones; links to folders are not followed.

    Returns:
        the files, and a sentence that counts files of other formats by their extension, if there are any.

    Raises:
        ValueError: a folder cannot be read.
    """
    files = [
        path
        for folder in folders
        for path in _list_files(folder)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    audio = [path for path in files if path.suffix.lower() in AUDIO_SUFFIXES]
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


def find_audio(root: Path, stem: str, example: str, corpus: Corpus) -> list[tuple[Path, re.Match[str]]]:
    """The audio files under `root` whose stem matches, sorted by stem.

    Args:
        root: folder that is searched with all its subfolders.
        stem: regular expression of the whole stem.
        example: a file name of the corpus, for the messages.
        corpus: for the messages.

    Raises:
        ValueError: the folder is missing, nothing matches, or two files have one stem (two copies of the corpus).
    """
    if not root.is_dir():
        raise ValueError(f"{corpus.name}: no such folder: {root}. Give --root the folder with files such as {example}.")
    pattern = re.compile(stem)
    found: dict[str, tuple[Path, re.Match[str]]] = {}
    for path in _list_files(root):
        match = pattern.fullmatch(path.stem)
        if match is None or path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        if path.stem in found:
            raise ValueError(
                f"{corpus.name}: {path.stem} is there twice: {found[path.stem][0]} and {path}. "
                f"Give --root a folder with one copy of the corpus."
            )
        found[path.stem] = path, match
    if not found:
        raise ValueError(
            f"{corpus.name}: no file such as {example} under {root}. "
            f"Give --root the corpus' folder; get it from {corpus.url}."
        )
    return [found[name] for name in sorted(found)]
