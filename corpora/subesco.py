"""SUBESCO: 7,000 acted Bangla utterances, 20 speakers, 10 sentences, 7 emotions, 5 takes.

`F_01_OISHI_S_1_ANGRY_1.wav` = gender, number and name of the speaker, sentence, emotion, take; 48 kHz. Women and men
are numbered apart, so a speaker is `F_01`, not `01`. Nothing is left out. The speakers make five groups of two women
and two men. Not confirmed on the release.
"""

from undertone.corpora._file_names import FileNameCorpus


class Subesco(FileNameCorpus):
    """SUBESCO; five groups of speakers."""

    name = "subesco"
    licence = "CC BY 4.0"
    hub_licence = "cc-by-4.0"
    url = "https://zenodo.org/records/4526477"
    citation = (
        "S. Sultana, M. S. Rahman, M. R. Selim, M. Z. Iqbal: SUST Bangla Emotional Speech Corpus (SUBESCO): An "
        "audio-only emotional speech corpus for Bangla. PLoS ONE 16(4), e0250173, 2021."
    )
    language = "Bangla"
    pitfalls = "The number alone makes one speaker of a woman and a man."
    emotions = {
        "ANGRY": "angry",
        "DISGUST": "disgusted",
        "FEAR": "fearful",
        "HAPPY": "happy",
        "NEUTRAL": "neutral",
        "SAD": "sad",
        "SURPRISE": "surprised",
    }
    genders = {"F": "female", "M": "male"}
    example = "F_01_OISHI_S_1_ANGRY_1.wav"
    stem = rf"(?P<speaker>(?P<gender>[FM])_\d+)_[A-Z]+_S_(?P<text>\d+)_(?P<emotion>{'|'.join(emotions)})_(?P<take>\d)"
    expected = {
        "emotion": dict.fromkeys(emotions.values(), 1000),
        "speaker": {f"{letter}_{number:02d}": 350 for letter in "FM" for number in range(1, 11)},
    }
    default_protocol = "groups"
