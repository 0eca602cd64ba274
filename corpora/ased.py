"""ASED, the Amharic speech emotion dataset: 2,474 acted utterances, 65 speakers, 27 sentences, 5 emotions.

`01Neutral/n1-04-02-01-31.wav` = emotion (n neutral, f fearful, h happy, s sad, a angry; one file has a capital S) and
its number, sentence, repetition, gender (01 female, 02 male), speaker; 16 kHz. Sentences differ by emotion, so the text
is both. Nothing is left out. The speakers make five groups. Codes as two published tools read them, counts by emotion
as published; not confirmed on the release.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, rows_by_name

EMOTIONS = {"n": "neutral", "f": "fearful", "h": "happy", "s": "sad", "a": "angry"}

_STEM = r"(?P<emotion>[nfhsaNFHSA])\d-(?P<text>\d\d)-(?P<take>\d\d)-(?P<gender>0[12])-(?P<speaker>\d\d)"


class Ased(Corpus):
    """ASED; five groups of speakers."""

    name = "ased"
    licence = "none stated; cite the paper"
    url = "https://github.com/Ethio2021/ASED_V1"
    citation = (
        "E. A. Retta, E. Almekhlafi, R. Sutcliffe, M. Mhamed, H. Ali, J. Feng: A new Amharic speech emotion dataset "
        "and classification benchmark. ACM TALLIP 22(1), 2023."
    )
    language = "Amharic"
    num_clips = 2474
    num_speakers = 65
    num_classes = 5
    pitfalls = "One file's emotion is a capital S, which a table of lower-case codes does not know."
    expected = {"emotion": dict(neutral=522, fearful=510, happy=486, sad=470, angry=486)}
    default_protocol = "groups"

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        """See `Corpus.rows`."""
        codes = EMOTIONS | {letter.upper(): emotion for letter, emotion in EMOTIONS.items()}
        example = "01Neutral/n1-04-02-01-31.wav"
        for row in rows_by_name(self, root, _STEM, example, codes, {"01": "female", "02": "male"}):
            yield row | {"text": f"{row['emotion']} {row['text']}"}
