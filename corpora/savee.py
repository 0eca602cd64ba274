"""SAVEE: 480 acted English utterances, 4 male speakers, 7 emotions.

`AudioData/DC/a01.wav`, 44.1 kHz, or `DC_a01.wav` in copies: speaker DC JE JK KL, emotion, sentence. The codes sa (sad)
and su (surprised) come before the single letters a d f h n, or they would be cut to an s that is none. Sentences differ
by emotion, so that the number is an extra column and no text. Nothing is left out. All speakers are men, so gender is
no default task. Leave-one-speaker-out makes four folds. Not confirmed on the release.
"""

from typing import Any

from undertone.corpora._file_names import FileNameCorpus


class Savee(FileNameCorpus):
    """SAVEE; leave-one-speaker-out."""

    name = "savee"
    licence = "registration, for research"
    url = "http://kahlan.eps.surrey.ac.uk/savee"
    citation = (
        "S. Haq, P. J. B. Jackson: Multimodal emotion recognition. In W. Wang (ed.): Machine Audition: Principles, "
        "Algorithms and Systems, IGI Global, 398-423, 2010."
    )
    language = "English"
    hours = 0.51
    pitfalls = "Codes read by their first letter make one class of sad and surprised."
    emotions = {
        "sa": "sad",
        "su": "surprised",
        "a": "angry",
        "d": "disgusted",
        "f": "fearful",
        "h": "happy",
        "n": "neutral",
    }
    genders = dict.fromkeys(("DC", "JE", "JK", "KL"), "male")
    example = "DC/a01.wav or DC_a01.wav"
    stem = rf"(?:.*/)?(?P<speaker>{'|'.join(genders)})[/_](?P<emotion>{'|'.join(emotions)})(?P<sentence>\d\d)"
    parents = 1
    expected = {
        "emotion": {emotion: 120 if emotion == "neutral" else 60 for emotion in emotions.values()},
        "speaker": dict.fromkeys(genders, 120),
    }
    default_protocol = "speaker"

    def changes(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"id": f"{row['speaker']}_{row['id'].removeprefix(row['speaker'] + '_')}"}
