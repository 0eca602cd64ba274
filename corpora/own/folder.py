r"""Your own data as a folder per class: `FOLDER/angry/*.wav`, `FOLDER/happy/*.flac`, ...

The name of a direct subfolder is the emotion of all audio files in it and in its subfolders. The speaker is unknown
unless `corpus.speaker=REGEX` finds it in a file's stem: the group named `speaker`, or the first one. With `(\d+)_.*`,
`angry/07_hello.wav` is by speaker 07.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, list_audio
from undertone.corpora.own.labels import Labels


class Folder(Corpus):
    """Your own data: the names of the subfolders are the emotions."""

    licence = "your own"
    hub_licence = "unknown"
    citation = "your own"

    def __init__(self, path: Path, *, speaker: str | None = None) -> None:
        """Check the options.

        Args:
            path: the folder with one subfolder per class.
            speaker: regular expression with a group, matched from the beginning of a file's stem.
        """
        self.name = path.resolve().name
        self.url = str(path)
        self.default_root = path
        self.speaker = None if speaker is None else _expression(speaker)

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        folders = [path for path in root.iterdir() if path.is_dir() and path.name[0] != "."] if root.is_dir() else []
        files, left_out = list_audio(*sorted(folders))
        if not files:
            expected = f"Expected one subfolder per class, such as {root / 'angry' / '01.wav'}, or use a table"
            raise ValueError(
                " ".join([f"No audio in subfolders of {root}. {expected} (.csv, .tsv, .jsonl, .parquet).", *left_out])
            )
        names = [path.relative_to(root) for path in files]
        labels = Labels(str(root), range(1, len(files) + 1), typed=True)
        emotions = labels.read("emotion", [name.parts[0] for name in names])
        speakers = labels.read("speaker", [self._speaker(path) for path in files])
        self.notes = [*left_out, *labels.notes]
        for path, name, emotion, speaker in zip(files, names, emotions, speakers, strict=True):
            yield {"id": name.as_posix(), "path": path, "emotion": emotion, "speaker": speaker}

    def _speaker(self, path: Path) -> str | None:
        if self.speaker is None:
            return None
        match = self.speaker.match(path.stem)
        found = match and (match["speaker"] if "speaker" in self.speaker.groupindex else match[1])
        if not found:
            raise ValueError(
                f"corpus.speaker={self.speaker.pattern} finds no speaker in {path.stem!r}, of {path}. "
                f"Every file needs one; omit the option if speakers are unknown."
            )
        return found


def _expression(speaker: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(str(speaker))
    except re.error as error:
        raise ValueError(f"corpus.speaker={speaker} is not a regular expression: {error}.") from error
    if not pattern.groups:
        raise ValueError(f"corpus.speaker={speaker} has no group; put the speaker's part in parentheses: (\\d+)_.*")
    return pattern
