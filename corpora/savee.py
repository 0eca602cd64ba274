"""SAVEE: 480 acted English utterances, 4 male speakers, 7 emotions.

`AudioData/DC/a01.wav`, 44.1 kHz, or `DC_a01.wav` in copies: speaker DC JE JK KL, emotion, sentence. The codes sa (sad)
and su (surprised) come before the single letters a d f h n, or they would be cut to an s that is none. Sentences differ
by emotion, so that the number is an extra column and no text. Nothing is left out. All speakers are men, so gender is
no default task. Leave-one-speaker-out makes four folds. Not confirmed on the release.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, find_audio, other_names

EMOTIONS = {
    "sa": "sad",
    "su": "surprised",
    "a": "angry",
    "d": "disgusted",
    "f": "fearful",
    "h": "happy",
    "n": "neutral",
}
SPEAKERS = ("DC", "JE", "JK", "KL")

_ONE = "|".join(SPEAKERS)
_NAME = rf"(?:(?P<folder>{_ONE})/|.*/(?P<prefix>{_ONE})_)(?P<emotion>{'|'.join(EMOTIONS)})(?P<sentence>\d\d)"
_EXAMPLE = "DC/a01.wav or DC_a01.wav"


class Savee(Corpus):
    """SAVEE; leave-one-speaker-out."""

    name = "savee"
    licence = "registration, for research"
    url = "http://kahlan.eps.surrey.ac.uk/savee"
    citation = (
        "S. Haq, P. J. B. Jackson: Multimodal emotion recognition. In W. Wang (ed.): Machine Audition: Principles, "
        "Algorithms and Systems, IGI Global, 398-423, 2010."
    )
    language = "English"
    num_clips = 480
    num_speakers = 4
    num_classes = 7
    pitfalls = "Codes read by their first letter make one class of sad and surprised."
    expected = {
        "emotion": {emotion: 120 if emotion == "neutral" else 60 for emotion in EMOTIONS.values()},
        "speaker": dict.fromkeys(SPEAKERS, 120),
    }
    default_protocol = "speaker"

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        """See `Corpus.rows`."""
        files = find_audio(root, _NAME, _EXAMPLE, self, parents=1)
        self.notes = [*other_names(root, [path for path, _ in files], _EXAMPLE)]
        for path, match in files:
            speaker = match["folder"] or match["prefix"]
            yield {
                "id": f"{speaker}_{match['emotion']}{match['sentence']}",
                "path": path,
                "speaker": speaker,
                "gender": "male",
                "emotion": EMOTIONS[match["emotion"]],
                "extra": {"sentence": match["sentence"]},
            }
