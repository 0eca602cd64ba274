"""Sound without labels: every file of a folder, however deep, for what learns from unlabelled speech."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import AUDIO_SUFFIXES, Corpus


class Sounds(Corpus):
    """Sound without labels: every file in a folder."""

    licence = "your own"
    citation = "your own"

    def __init__(self, path: Path) -> None:
        """Describe the folder."""
        self.name = path.resolve().name
        self.url = str(path)
        self.default_root = path

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        """See `Corpus.rows`."""
        for path in sound_files(root):
            yield {"id": path.relative_to(root).as_posix(), "path": path}


def sound_files(root: Path) -> list[Path]:
    """Every sound file of a folder, however deep, in order.

    Raises:
        ValueError: there is none.
    """
    files = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in AUDIO_SUFFIXES]
    if not files:
        raise ValueError(f"No sound in {root}. Expected files that end in {', '.join(AUDIO_SUFFIXES)}.")
    return files
