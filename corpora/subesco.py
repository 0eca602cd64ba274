"""SUBESCO: 7,000 acted Bangla utterances, 20 speakers, 10 sentences, 7 emotions, 5 takes.

`F_01_OISHI_S_1_ANGRY_1.wav` = gender, number and name of the speaker, sentence, emotion, take; 48 kHz. Women and men
are numbered apart, so a speaker is `F_01`, not `01`. Nothing is left out. The speakers make five groups of two women
and two men. Not confirmed on the release.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, rows_by_name

EMOTIONS = {
    "ANGRY": "angry",
    "DISGUST": "disgusted",
    "FEAR": "fearful",
    "HAPPY": "happy",
    "NEUTRAL": "neutral",
    "SAD": "sad",
    "SURPRISE": "surprised",
}

_STEM = rf"(?P<speaker>(?P<gender>[FM])_\d+)_[A-Z]+_S_(?P<text>\d+)_(?P<emotion>{'|'.join(EMOTIONS)})_(?P<take>\d)"


class Subesco(Corpus):
    """SUBESCO; five groups of speakers."""

    name = "subesco"
    licence = "CC BY 4.0"
    url = "https://zenodo.org/records/4526477"
    citation = (
        "S. Sultana, M. S. Rahman, M. R. Selim, M. Z. Iqbal: SUST Bangla Emotional Speech Corpus (SUBESCO): An "
        "audio-only emotional speech corpus for Bangla. PLoS ONE 16(4), e0250173, 2021."
    )
    language = "Bangla"
    num_clips = 7000
    num_speakers = 20
    num_classes = 7
    pitfalls = "The number alone makes one speaker of a woman and a man."
    expected = {
        "emotion": dict.fromkeys(EMOTIONS.values(), 1000),
        "speaker": {f"{letter}_{number:02d}": 350 for letter in "FM" for number in range(1, 11)},
    }
    default_protocol = "groups"

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        """See `Corpus.rows`."""
        example = "F_01_OISHI_S_1_ANGRY_1.wav"
        return rows_by_name(self, root, _STEM, example, EMOTIONS, {"F": "female", "M": "male"})
