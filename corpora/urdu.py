"""URDU: 400 natural utterances of Urdu talk shows, 29 speakers, 4 emotions.

`Angry/SM1_F10_A010.wav` = speaker (S, M or F for the gender, number), file and clip, emotion (A H N S) and number;
44.1 kHz. Nothing is left out. Some speakers have one or two clips, so the speakers make five groups. Genders are the
letters of the names. Not confirmed on the release, whose papers say 38 speakers where its names have 29.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, rows_by_name

EMOTIONS = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}

_STEM = r"(?P<speaker>S(?P<gender>[MF])\d+)_F\d+_(?P<emotion>[AHNS])\d+"


class Urdu(Corpus):
    """URDU; five groups of speakers."""

    name = "urdu"
    licence = "for research"
    url = "https://github.com/siddiquelatif/URDU-Dataset"
    citation = (
        "S. Latif, A. Qayyum, M. Usman, J. Qadir: Cross lingual speech emotion recognition: Urdu vs. Western "
        "languages. Frontiers of Information Technology 2018, 88-93."
    )
    language = "Urdu"
    num_clips = 400
    num_speakers = 29
    num_classes = 4
    pitfalls = "Random divisions test on training speakers, who have 14 clips each on average."
    expected = {"emotion": dict.fromkeys(EMOTIONS.values(), 100)}
    default_protocol = "groups"

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        """See `Corpus.rows`."""
        return rows_by_name(self, root, _STEM, "Angry/SM1_F10_A010.wav", EMOTIONS, {"F": "female", "M": "male"})
