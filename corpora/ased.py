"""ASED, the Amharic speech emotion dataset: 2,474 acted utterances, 65 speakers, 27 sentences, 5 emotions.

`01Neutral/n1-04-02-01-31.wav` = emotion (n neutral, f fearful, h happy, s sad, a angry; one file has a capital S) and
its number, sentence, repetition, gender (01 female, 02 male), speaker; 16 kHz. Sentences differ by emotion, so the text
is both. Nothing is left out. The speakers make five groups. Codes as two published tools read them, counts by emotion
as published; not confirmed on the release.
"""

from typing import Any

from undertone.corpora._file_names import FileNameCorpus

_EMOTIONS = {"n": "neutral", "f": "fearful", "h": "happy", "s": "sad", "a": "angry"}


class Ased(FileNameCorpus):
    """ASED; five groups of speakers."""

    name = "ased"
    licence = "none stated; cite the paper"
    url = "https://github.com/Ethio2021/ASED_V1"
    citation = (
        "E. A. Retta, E. Almekhlafi, R. Sutcliffe, M. Mhamed, H. Ali, J. Feng: A new Amharic speech emotion dataset "
        "and classification benchmark. ACM TALLIP 22(1), 2023."
    )
    language = "Amharic"
    num_speakers = 65
    pitfalls = "One file's emotion is a capital S, which a table of lower-case codes does not know."
    emotions = {code: emotion for letter, emotion in _EMOTIONS.items() for code in (letter, letter.upper())}
    genders = {"01": "female", "02": "male"}
    example = "01Neutral/n1-04-02-01-31.wav"
    stem = r"(?P<emotion>[nfhsaNFHSA])\d-(?P<text>\d\d)-(?P<take>\d\d)-(?P<gender>0[12])-(?P<speaker>\d\d)"
    expected = {"emotion": dict(neutral=522, fearful=510, happy=486, sad=470, angry=486)}
    default_protocol = "groups"

    def changes(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"text": f"{row['emotion']} {row['text']}"}
