"""RAVDESS, the speech part: 1440 acted North American English utterances, 24 actors, 8 emotions.

`03-01-06-01-02-01-12.wav` = modality (03 audio only), channel (01 speech), emotion, intensity, statement, repetition,
actor; 48 kHz, 16 bit. Odd actors are men, even ones women. Songs (channel 02) and video are not used. The intensity is
the extra column `intensity`; neutral exists only in normal intensity. `03-01-03-01-02-01-07` and `03-01-03-01-02-02-07`
hold the same audio in the release, and five files are stereo. Many copies contain every actor's folder twice, once
below `audio_speech_actors_01-24`: give --root one of the two.

There is no official split. The protocol `actors` is the default: six folds of four consecutive actors, two men and two
women each, the same for every seed. `audb` is audb's division: dev 16, 17, 19 and 20, test 21 to 24.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, find_audio
from undertone.corpora.folds import Fold, rotate_units
from undertone.corpora.manifest import Manifest

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgusted",
    "08": "surprised",
}
INTENSITIES = {"01": "normal", "02": "strong"}
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
ACTORS_A_FOLD = 4

_STEM = r"03-01-(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<statement>0[12])-0[12]-(?P<actor>0[1-9]|1\d|2[0-4])"


class Ravdess(Corpus):
    """RAVDESS speech; six folds of two men and two women."""

    name = "ravdess"
    licence = "CC BY-NC-SA 4.0"
    hub_licence = "cc-by-nc-sa-4.0"
    url = "https://zenodo.org/records/1188976"
    citation = (
        "S. R. Livingstone, F. A. Russo: The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS). "
        "PLoS ONE 13(5), e0196391, 2018."
    )
    language = "English"
    hours = 1.48
    pitfalls = (
        "Widespread copies hold every file twice. One pair of files is identical in the release; five are stereo."
    )
    expected = {
        "emotion": {emotion: 96 if emotion == "neutral" else 192 for emotion in EMOTIONS.values()},
        "speaker": {f"{actor:02d}": 60 for actor in range(1, 25)},
    }
    default_protocol = "actors"
    own_protocols = ("actors", "audb")
    splits = {"audb": {"dev": ("16", "17", "19", "20"), "test": ("21", "22", "23", "24")}}

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        for path, match in find_audio(root, _STEM, "Actor_12/03-01-06-01-02-01-12.wav", self):
            yield {
                "id": path.stem,
                "path": path,
                "speaker": match["actor"],
                "gender": "male" if int(match["actor"]) % 2 else "female",
                "emotion": EMOTIONS[match["emotion"]],
                "text": STATEMENTS[match["statement"]],
                "extra": {"intensity": INTENSITIES[match["intensity"]]},
            }

    def folds(
        self, manifest: Manifest, protocol: str | None = None, num_folds: int | None = None, seed: int = 0
    ) -> list[Fold]:
        """See `Corpus.folds`; `actors` leaves out actors 01-04, then 05-08, ...; `num_folds` makes groups instead."""
        if protocol not in (None, "actors") or num_folds is not None:
            return super().folds(manifest, protocol or "groups", num_folds, seed)
        units: dict[str, list[str]] = {}
        for name, speaker in zip(manifest.ids, manifest.column("speaker"), strict=True):
            first = (int(speaker) - 1) // ACTORS_A_FOLD * ACTORS_A_FOLD + 1
            units.setdefault(f"{first:02d}-{first + ACTORS_A_FOLD - 1:02d}", []).append(name)
        return rotate_units({name: units[name] for name in sorted(units)}, manifest, seed)
