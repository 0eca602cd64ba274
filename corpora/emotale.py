"""EmoTale: 450 Danish and 350 English acted utterances, 18 speakers, 5 emotions and 3 dimensions.

`wav/DK_001_A_1.wav` = language (DK, EN), speaker, intended emotion (A angry, B bored, H happy, N neutral, S sad), take;
48 kHz stereo. A speaker's number is the same person in both languages: all 18 speak Danish, 14 of them English too.
`annotations.csv`, where it lies there, gives three raters' arousal, valence and dominance, 1-5, whose means become
0..1, (x - 1) / 4, and their emotions as votes. `speaker_info.csv` gives the gender (M, F); without it there is none.
The root holds all three. Nothing is left out.

`language` is `danish`, `english` or `both`, and the extra column of that name. The protocol leaves out one speaker, of
both languages at once. Not confirmed on the release.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, beside, check_choice, find_audio, fraction_of_scale, other_names, read_rows

EMOTIONS = {"A": "angry", "B": "bored", "H": "happy", "N": "neutral", "S": "sad"}
LANGUAGES = {"DK": "danish", "EN": "english"}
RATERS = ("a1", "a2", "a3")

_STEM = r"(?P<language>DK|EN)_(?P<speaker>\d{3})_(?P<emotion>[ABHNS])_(?P<take>\d+)"
_EXAMPLE = "wav/DK_001_A_1.wav"
_AXES = {"A": "arousal", "V": "valence", "D": "dominance"}
_GENDERS = {"f": "female", "female": "female", "m": "male", "male": "male"}


class EmoTale(Corpus):
    """EmoTale; Danish, English or both; leave-one-speaker-out."""

    name = "emotale"
    licence = "none stated; cite the paper"
    url = "https://github.com/snehadas/EmoTale"
    citation = (
        "M. J. Hjuler, H. V. Skat-Rørdam, L. H. Clemmensen, S. Das: "
        "EmoTale: An Enacted Speech-emotion Dataset in Danish. 2025."
    )
    num_speakers = 18
    pitfalls = "The same speakers speak both languages: training on one and testing on the other leaks speakers."
    default_protocol = "speaker"

    def __init__(self, *, language: str = "both") -> None:
        """Choose the utterances.

        Args:
            language: `danish`, `english` or `both`.
        """
        check_choice(self.name, "language", language, (*LANGUAGES.values(), "both"))
        self.languages = tuple(LANGUAGES.values()) if language == "both" else (language,)
        self.language = " and ".join(name.capitalize() for name in self.languages)
        self.variant = self.language
        each = {"danish": 90, "english": 70, "both": 160}[language]
        self.expected = {"emotion": dict.fromkeys(EMOTIONS.values(), each)}

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        files = find_audio(root, _STEM, _EXAMPLE, self)
        ratings = {Path(row["file"]).stem: row for row in _table(root, "annotations.csv", "file")}
        genders = {
            row["speaker"].zfill(3): _GENDERS.get(row.get("gender", "").lower())
            for row in _table(root, "speaker_info.csv", "speaker")
        }
        self.notes = [*other_names(root, [path for path, _ in files], _EXAMPLE)]
        if not genders:
            self.notes.append("There is no speaker_info.csv, so no gender is known.")
        for path, match in files:
            language = LANGUAGES[match["language"]]
            if language in self.languages:
                yield {
                    "id": path.stem,
                    "path": path,
                    "speaker": match["speaker"],
                    "gender": genders.get(match["speaker"]),
                    "emotion": EMOTIONS[match["emotion"]],
                    **_rated(ratings.get(path.stem, {})),
                    "extra": {"language": language, "take": match["take"]},
                }


def _table(root: Path, name: str, key: str) -> list[dict[str, str]]:
    """The rows of a table in the root or beside it; none where it is missing."""
    path = beside(root, name)
    return [] if path is None else [row for _, row in read_rows(path, (key,))]


def _rated(row: dict[str, str]) -> dict[str, Any]:
    """Means of the raters' dimensions, 0..1, and their votes; empty without ratings."""
    fields: dict[str, Any] = {}
    for letter, axis in _AXES.items():
        cells = [cell for rater in RATERS if (cell := row.get(f"{rater}_{letter}"))]
        try:
            values = [float(cell) for cell in cells]
        except ValueError as error:
            raise ValueError(f"emotale: annotations.csv, {row['file']}: {error}; expected 1 to 5.") from error
        if values:
            fields[axis] = fraction_of_scale(sum(values) / len(values), 1, 5)
    words = [word for rater in RATERS if (word := row.get(f"{rater}_cat"))]  # `A`, `angry`, `Anger`: all are angry
    votes = Counter(EMOTIONS.get(word[0].upper(), word.lower()) for word in words)
    return fields | ({"votes": dict(votes)} if votes else {})
