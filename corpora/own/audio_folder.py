"""Audio without labels: all files in a folder and its subfolders, for training on unlabelled speech."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import AUDIO_SUFFIXES, Corpus, list_audio


class AudioFolder(Corpus):
    """Audio without labels: all files in a folder."""

    licence = "your own"
    citation = "your own"

    def __init__(self, path: Path) -> None:
        self.name = path.resolve().name
        self.url = str(path)
        self.default_root = path

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        files, self.notes = audio_files(root)
        for path in files:
            yield {"id": path.relative_to(root).as_posix(), "path": path}


def audio_files(root: Path, suffixes: Sequence[str] = AUDIO_SUFFIXES) -> tuple[list[Path], list[str]]:
    """As `list_audio`, of one folder, which must hold audio."""
    files, left_out = list_audio(root, suffixes=suffixes)
    if not files:
        raise ValueError(
            " ".join([f"No audio in {root}. Expected files that end in {', '.join(suffixes)}.", *left_out])
        )
    return files, left_out
