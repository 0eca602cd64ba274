"""ShEMO: 3,000 semi-natural Persian utterances of radio plays, 87 speakers, 6 emotions.

`F01A01.wav` = gender and number of the speaker, emotion (A angry, F fearful, H happy, N neutral, S sad, W surprised),
number; the letter F at the front is the gender, not fear. 44.1 kHz. Nothing is left out: fearful has 38 clips, and
papers often leave it out. The speakers make five groups. Counts as published, not confirmed on the release.
"""

from undertone.corpora._file_names import FileNameCorpus


class Shemo(FileNameCorpus):
    """ShEMO; five groups of speakers."""

    name = "shemo"
    licence = "free for research"
    url = "https://github.com/mansourehk/ShEMO"
    citation = (
        "O. Mohamad Nezami, P. Jamshid Lou, M. Karami: ShEMO: a large-scale validated database for Persian speech "
        "emotion detection. Language Resources and Evaluation 53(1), 1-16, 2019."
    )
    language = "Persian"
    num_speakers = 87
    pitfalls = "Random divisions test on training speakers; fearful has 38 clips, which some leave out."
    emotions = {"A": "angry", "F": "fearful", "H": "happy", "N": "neutral", "S": "sad", "W": "surprised"}
    genders = {"F": "female", "M": "male"}
    example = "F01A01.wav"
    stem = r"(?P<speaker>(?P<gender>[FM])\d\d)(?P<emotion>[AFHNSW])\d\d+"
    expected = {"emotion": dict(angry=1059, fearful=38, happy=201, neutral=1028, sad=449, surprised=225)}
    default_protocol = "groups"
