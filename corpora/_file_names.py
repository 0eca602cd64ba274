"""Corpora whose labels stand in the names of their files: a subclass is a table of facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, find_audio, other_names


class FileNameCorpus(Corpus):
    """A corpus whose labels stand in the names of its files; audio of other names is counted in the notes.

    Attributes:
        stem: regular expression of a file's whole stem, see `find_audio`. Its groups `speaker`, `emotion` and `text`
            are these columns, any other is an extra column of its name.
        example: a file name of the corpus, for the messages.
        parents: number of parent folders that belong to the name.
        emotions: {what the group `emotion` matches: emotion}; a code that is missing there is a row that is left out.
        genders: {what the group `gender`, or else `speaker`, matches: gender}.
    """

    stem: str
    example: str
    parents: int = 0
    emotions: Mapping[str, str]
    genders: Mapping[str, str] = {}

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        files = find_audio(root, self.stem, self.example, self, self.parents)
        self.notes = [*other_names(root, [path for path, _ in files], self.example)]
        for path, match in files:
            groups = match.groupdict()
            speaker, emotion = groups.pop("speaker"), groups.pop("emotion")
            if emotion in self.emotions:
                row = {
                    "id": path.stem,
                    "path": path,
                    "speaker": speaker,
                    "gender": self.genders.get(groups.pop("gender", speaker)),
                    "emotion": self.emotions[emotion],
                    "text": groups.pop("text", None),
                    "extra": groups,
                }
                yield row | self.changes(row)

    def changes(self, row: dict[str, Any]) -> dict[str, Any]:
        """The fields of a row that the names of the files do not give as they are."""
        return {}
