"""URDU: 400 natural utterances of Urdu talk shows, 29 speakers, 4 emotions.

`Angry/SM1_F10_A010.wav` = speaker (S, M or F for the gender, number), file and clip, emotion (A H N S) and number;
44.1 kHz. Nothing is left out. Some speakers have one or two clips, so the speakers make five groups. Genders are the
letters of the names. Not confirmed on the release, whose papers say 38 speakers where its names have 29.
"""

from undertone.corpora._file_names import FileNameCorpus


class Urdu(FileNameCorpus):
    """URDU; five groups of speakers."""

    name = "urdu"
    licence = "for research"
    url = "https://github.com/siddiquelatif/URDU-Dataset"
    citation = (
        "S. Latif, A. Qayyum, M. Usman, J. Qadir: Cross lingual speech emotion recognition: Urdu vs. Western "
        "languages. Frontiers of Information Technology 2018, 88-93."
    )
    language = "Urdu"
    num_speakers = 29
    pitfalls = "Random divisions test on training speakers, who have 14 clips each on average."
    emotions = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
    genders = {"F": "female", "M": "male"}
    example = "Angry/SM1_F10_A010.wav"
    stem = r"(?P<speaker>S(?P<gender>[MF])\d+)_F\d+_(?P<emotion>[AHNS])\d+"
    expected = {"emotion": dict.fromkeys(emotions.values(), 100)}
    default_protocol = "groups"
