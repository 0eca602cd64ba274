"""CREMA-D: 7442 acted English utterances, 91 actors, 12 sentences, 6 emotions.

`1001_DFA_ANG_XX.wav` = actor, sentence, intended emotion, level (LO MD HI XX, the extra column `level`); 16 kHz. The
root is the repository, its folder `AudioWAV` or any copy that keeps the names; the repository's MP3 copies are not
read. `1076_MTI_SAD_XX.wav` is silent and is skipped. Genders are those of `VideoDemographics.csv`.

Listeners do not always perceive the emotion that an actor intended, so there are two sets of labels:
    `labels=intended`   the emotion in the file's name
    `labels=perceived`  the majority of listeners who got the voice alone, from `processedResults/tabulatedVotes.csv`
        (keys 1xxxxx; the others are for the face and for both). The counts become votes, for soft labels. A tie has
        votes and no emotion.

There is no official split. By default the speakers are divided into five groups; `protocol=split` is the split of audb,
56 / 18 / 17 speakers.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, beside, check_choice, find_audio

EMOTIONS = {"ANG": "angry", "DIS": "disgusted", "FEA": "fearful", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
FEMALE = frozenset(
    "1002 1003 1004 1006 1007 1008 1009 1010 1012 1013 1018 1020 1021 1024 1025 1028 1029 1030 1037 1043 1046 1047 "
    "1049 1052 1053 1054 1055 1056 1058 1060 1061 1063 1072 1073 1074 1075 1076 1078 1079 1082 1084 1089 1091".split()
)
DEV = frozenset("1049 1053 1054 1055 1058 1059 1061 1062 1063 1064 1065 1066 1067 1068 1070 1075 1080 1085".split())
TEST = frozenset("1048 1069 1071 1074 1076 1077 1078 1079 1082 1083 1084 1086 1087 1088 1089 1090 1091".split())

_STEM = (
    rf"(?P<actor>10(?:0[1-9]|[1-8]\d|9[01]))_(?P<sentence>{'|'.join(SENTENCES)})_(?P<emotion>{'|'.join(EMOTIONS)})"
    r"_(?P<level>LO|MD|HI|XX)"
)
_VOTES = Path("processedResults") / "tabulatedVotes.csv"
_VOICE = 1  # first digit of a key of the votes' table


class CremaD(Corpus):
    """CREMA-D; intended or perceived labels; five groups of speakers."""

    name = "crema_d"
    licence = "ODbL 1.0"
    hub_licence = "odbl"
    url = "https://github.com/CheyneyComputerScience/CREMA-D"
    citation = (
        "H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur, A. Nenkova, R. Verma: CREMA-D: Crowd-sourced Emotional "
        "Multimodal Actors Dataset. IEEE Transactions on Affective Computing 5(4), 377-390, 2014."
    )
    language = "English"
    hours = 5.26
    num_speakers = 91
    pitfalls = "Intended and perceived labels differ: a figure must say which. One file is silent."
    default_protocol = "groups"

    def __init__(self, *, labels: str = "intended") -> None:
        """Choose the labels.

        Args:
            labels: `intended` or `perceived`.
        """
        check_choice(self.name, "labels", labels, ("intended", "perceived"))
        self.perceived = labels == "perceived"
        self.variant = f"{labels} emotions"
        counts = {emotion: 1087 if emotion == "neutral" else 1271 for emotion in EMOTIONS.values()}
        self.expected = {} if self.perceived else {"emotion": counts}

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        folder = root / "AudioWAV" if (root / "AudioWAV").is_dir() else root
        files = find_audio(folder, _STEM, "AudioWAV/1001_DFA_ANG_XX.wav", self)
        votes = _voice_votes(root) if self.perceived else {}
        for path, match in files:
            actor = match["actor"]
            emotion: str | None = EMOTIONS[match["emotion"]]
            if self.perceived:
                if path.stem not in votes:
                    raise ValueError(f"crema_d: {_VOTES.name} has no votes for {path.stem}; take the complete table.")
                most = max(votes[path.stem].values(), default=0)
                best = [label for label, count in votes[path.stem].items() if count == most]
                emotion = best[0] if len(best) == 1 else None
            yield {
                "id": path.stem,
                "path": path,
                "speaker": actor,
                "gender": "female" if actor in FEMALE else "male",
                "emotion": emotion,
                "votes": votes.get(path.stem),
                "split": "dev" if actor in DEV else "test" if actor in TEST else "train",
                "text": SENTENCES[match["sentence"]],
                "extra": {"level": match["level"]},
            }


def _voice_votes(root: Path) -> dict[str, dict[str, int]]:
    """{stem: {emotion: listeners}} for the voice alone, without emotions that no listener named."""
    path = beside(root, _VOTES)
    if path is None:
        raise ValueError(
            f"crema_d: corpus.labels=perceived needs {_VOTES} in {root} or beside it; it is in the repository, "
            f"{CremaD.url}."
        )
    columns = {emotion[0].upper(): emotion for emotion in EMOTIONS.values()}
    votes = {}
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file)
        cells: list[str] = []
        try:
            header = next(reader, [])
            for cells in reader:
                row = dict(zip(header, cells, strict=False))
                if int(cells[0]) // 100_000 != _VOICE:
                    continue
                counts = {emotion: int(row[letter]) for letter, emotion in columns.items()}
                votes[row["fileName"]] = {emotion: count for emotion, count in counts.items() if count}
        except (ValueError, KeyError, IndexError, csv.Error) as error:
            raise ValueError(
                f"{path}, line {reader.line_num}: expected a key, votes A D F H N S and a file name; got {cells}."
            ) from error
    return votes
