"""JL corpus: 2,400 acted New Zealand English utterances, 4 speakers, 5 primary and 5 secondary emotions.

`female1_angry_10a_1.wav` = speaker (female1 female2 male1 male2), emotion, sentence and part, session; 44.1 kHz.

`labels`:
    `primary`  angry, excited, happy, neutral, sad: 1,200 utterances
    `all`      also anxious, apologetic, assertive, concerned, encouraging: 2,400
Utterances of another label are left out. Leave-one-speaker-out makes four folds. Not confirmed on the release.
"""

from undertone.corpora._file_names import FileNameCorpus
from undertone.corpora.corpus import check_choice

PRIMARY = ("angry", "excited", "happy", "neutral", "sad")
SECONDARY = ("anxious", "apologetic", "assertive", "concerned", "encouraging")


class JlCorpus(FileNameCorpus):
    """JL corpus; primary or all emotions; leave-one-speaker-out."""

    name = "jl_corpus"
    licence = "CC0 1.0"
    hub_licence = "cc0-1.0"
    url = "https://github.com/tli725/JL-Corpus"
    citation = (
        "J. James, L. Tian, C. I. Watson: An open source emotional speech corpus for human robot interaction "
        "applications. Interspeech 2018, 2768-2772."
    )
    language = "English"
    num_clips = 2400
    pitfalls = "It has 5 primary and 5 secondary emotions: a figure must say which."
    genders = {"female1": "female", "female2": "female", "male1": "male", "male2": "male"}
    example = "female1_angry_10a_1.wav"
    stem = (
        rf"(?P<speaker>{'|'.join(genders)})_(?P<emotion>{'|'.join(PRIMARY + SECONDARY)})"
        r"_(?P<text>\d+[ab])_(?P<take>[12])"
    )
    default_protocol = "speaker"

    def __init__(self, *, labels: str = "primary") -> None:
        """Choose the utterances.

        Args:
            labels: `primary` or `all`.

        Raises:
            ValueError: another value.
        """
        check_choice(self.name, "labels", labels, ("primary", "all"))
        emotions = PRIMARY if labels == "primary" else PRIMARY + SECONDARY
        self.emotions = {emotion: emotion for emotion in emotions}
        self.variant = f"{len(self.emotions)} emotions"
        self.expected = {
            "emotion": dict.fromkeys(self.emotions, 240),
            "speaker": dict.fromkeys(self.genders, 60 * len(self.emotions)),
        }
