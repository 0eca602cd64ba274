"""TESS, the Toronto emotional speech set: 2,800 acted English utterances, 2 female speakers, 200 words, 7 emotions.

`OAF_back_angry.wav` = speaker (OAF, 64 years; YAF, 26 years), word, emotion; 24.4 kHz. One file's speaker is misspelt
OA. `ps` (pleasant surprise) becomes surprised. A few files have another sample rate, and two are AIFF inside .wav
(`YAF_germ_angry`, `YAF_neat_fear`): the format is read from the content. Widespread copies hold every folder twice:
give --root one of the two. Nothing is left out.

With two speakers the only honest test is the other one: the protocol makes two folds, whose dev part shares the
training speaker, and the results say so. Random divisions of TESS, which most published figures are from, score near
100 % and hold for these two speakers alone. Counts confirmed by two published tools, not on the release.
"""

from typing import Any

from undertone.corpora._file_names import FileNameCorpus


class Tess(FileNameCorpus):
    """TESS; two folds, each testing the other speaker."""

    name = "tess"
    licence = "CC BY-NC-ND 4.0"
    hub_licence = "cc-by-nc-nd-4.0"
    url = "https://tspace.library.utoronto.ca/handle/1807/24487"
    citation = (
        "M. K. Pichora-Fuller, K. Dupuis: Toronto emotional speech set (TESS). "
        "University of Toronto, 2020. doi:10.5683/SP2/E8H2MF."
    )
    language = "English"
    pitfalls = (
        "Random divisions test on the training speakers. One file's speaker is misspelt, two .wav files are AIFF, and "
        "copies hold every file twice."
    )
    emotions = {
        "angry": "angry",
        "disgust": "disgusted",
        "fear": "fearful",
        "happy": "happy",
        "neutral": "neutral",
        "ps": "surprised",
        "sad": "sad",
    }
    example = "OAF_back_angry.wav"
    stem = rf"(?P<speaker>OAF?|YAF)_(?P<text>[a-z]+)_(?P<emotion>{'|'.join(emotions)})"
    expected = {"emotion": dict.fromkeys(emotions.values(), 400), "speaker": dict(OAF=1400, YAF=1400)}
    default_protocol = "speaker"

    def changes(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"speaker": "YAF" if row["speaker"] == "YAF" else "OAF", "gender": "female"}
