"""Sound without labels: every file of a folder, however deep, for what learns from unlabelled speech."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import AUDIO_SUFFIXES, Corpus, list_files, other_endings


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
        files, self.notes = sound_files(root)
        for path in files:
            yield {"id": path.relative_to(root).as_posix(), "path": path}


def sound_files(root: Path) -> tuple[list[Path], list[str]]:
    """Every audio file of a folder, however deep, in order; and sentences on files of other endings, left out.

    Raises:
        ValueError: there is no audio, or a folder cannot be read.
    """
    found = [
        path for path in list_files(root) if not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    files, left_out = [path for path in found if path.suffix.lower() in AUDIO_SUFFIXES], other_endings(found)
    if not files:
        raise ValueError(
            f"No audio in {root}. Expected files that end in {', '.join(AUDIO_SUFFIXES)}."
            + "".join(f" {line}" for line in left_out)
        )
    return files, left_out
