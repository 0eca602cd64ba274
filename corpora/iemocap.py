"""IEMOCAP: 10,039 turns of improvised and scripted English dialogues, 5 sessions of a woman and a man each.

`SessionN/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav`, 16 kHz; `SessionN/dialog/EmoEvaluation/*.txt` has the
labels. The speaker is the session and the letter of the *last* token, here `1M`. The letter of the first token is who
wore the motion capture markers; using it gives half of the turns the wrong speaker and gender.

`labels`, the agreement of the release's raters:
    `4class`  angry, happy, neutral, sad; excited counts as happy: 5,531 turns
    `5class`  these and frustrated: 7,380 turns
    `all`     ten emotions, excited separate from happy, and 2,507 turns without agreement (no emotion): 10,039
Turns with another label are left out. `part` is `improvised`, `scripted` or `both`.

Valence, activation (arousal) and dominance, 1-5, become 0..1, (x - 1) / 4; a mean beyond the scale is clipped. Votes
are those of the raters (C-E...), not the actors' own; a rater who names two emotions has a vote for each. The text is
that of `dialog/transcriptions`, if present. The motion capture is not read.

Protocols: `session`, the default, leaves one session out, with the next one as dev; `speaker` leaves one speaker out,
with the other speaker of the session as dev; `superb` is SUPERB's: test is a session, dev a random 20 % of the turns of
the other four, so train and dev share speakers, and the results say so. The draw is that of `torch.manual_seed(0)` and
`random_split`, over the turns sorted by name. s3prl drew from the order of one machine's directory listing, so the
sizes agree with it, but the members do not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, check_choice, find_audio, fraction_of_scale
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest

EMOTIONS = {
    "ang": "angry",
    "hap": "happy",
    "neu": "neutral",
    "sad": "sad",
    "exc": "excited",
    "fru": "frustrated",
    "fea": "fearful",
    "sur": "surprised",
    "dis": "disgusted",
    "oth": "other",
    "xxx": None,
}
RATERS_WORDS = {
    "Anger": "angry",
    "Happiness": "happy",
    "Neutral": "neutral",
    "Neutral state": "neutral",
    "Sadness": "sad",
    "Excited": "excited",
    "Frustration": "frustrated",
    "Fear": "fearful",
    "Surprise": "surprised",
    "Disgust": "disgusted",
    "Other": "other",
}
CODES = {
    "4class": ("ang", "hap", "exc", "neu", "sad"),
    "5class": ("ang", "hap", "exc", "neu", "sad", "fru"),
    "all": tuple(EMOTIONS),
}
PARTS = {"impro": "improvised", "scrip": "scripted"}
DEV_FRACTION = 0.2

_TURN = r"Ses0(?P<session>[1-5])[FM]_(?P<part>impro|scrip)[^_].*_(?P<letter>[FM])\d{3}"
_MEAN = r"(\d+(?:\.\d*)?)"
_LINE = re.compile(rf"\[[\d. ]+ - [\d. ]+\]\t(\w+)\t(\w{{3}})\t\[{_MEAN}, {_MEAN}, {_MEAN}\]")
_VOTE = re.compile(r"C-E\d+:\t([^\t]*)")
_SPOKEN = re.compile(r"(Ses\w+_[FM]\d{3}) \[[\d.-]+\]: *(.*)")


@dataclass
class _Label:
    """The raters' labels of a turn."""

    name: re.Match[str]  # the turn's name, matched
    code: str  # what they agreed on, a key of `EMOTIONS`
    dimensions: dict[str, float | None]  # means, 0..1
    votes: list[list[str]]  # the emotions that each rater named


class Iemocap(Corpus):
    """IEMOCAP; 4, 5 or all emotions, improvised or scripted; leave-one-session-out."""

    name = "iemocap"
    licence = "USC SAIL release form, for research"
    url = "https://sail.usc.edu/iemocap"
    citation = (
        "C. Busso, M. Bulut, C.-C. Lee, A. Kazemzadeh, E. Mower, S. Kim, J. N. Chang, S. Lee, S. S. Narayanan: "
        "IEMOCAP: interactive emotional dyadic motion capture database. "
        "Language Resources and Evaluation 42(4), 335-359, 2008."
    )
    language = "English"
    num_clips = 10_039
    hours = 12
    pitfalls = (
        "The speaker by the first letter of a turn is wrong for 4,951 of 10,039 turns; fixed places in the name fail "
        "for 65 ids. Dev of SUPERB's division shares speakers with train."
    )
    default_protocol = "session"
    own_protocols = ("superb",)

    def __init__(self, *, labels: str = "4class", part: str = "both") -> None:
        """Choose turns and labels.

        Args:
            labels: `4class`, `5class` or `all`.
            part: `improvised`, `scripted` or `both`.
        """
        check_choice(self.name, "labels", labels, tuple(CODES))
        check_choice(self.name, "part", part, (*PARTS.values(), "both"))
        self.labels, self.part = labels, part
        self.merged = {"excited": "happy"} if labels != "all" else {}
        turns = "improvised and scripted turns" if part == "both" else f"{part} turns"
        what = "all emotions" if labels == "all" else f"{labels[0]} emotions, excited as happy"
        self.variant = f"{what}; {turns}"
        self.expected = _expected(labels) if part == "both" else {}

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        files = {path.stem: path for path, _ in find_audio(root, _TURN, "Ses01F_impro01_M000.wav", self)}
        labels, spoken = _read_labels(root), _read_transcriptions(root)
        if strays := sorted(set(files) - set(labels)):
            raise ValueError(
                f"iemocap: {len(strays)} files such as {files[strays[0]]} have no label in any "
                f"dialog/EmoEvaluation/*.txt under {root}. Give --root the folder with Session1 to Session5, complete."
            )
        for turn, label in sorted(labels.items()):
            part = PARTS[label.name["part"]]
            if label.code not in CODES[self.labels] or self.part not in (part, "both"):
                continue
            session, letter, emotion = label.name["session"], label.name["letter"], EMOTIONS[label.code]
            folder = root / f"Session{session}" / "sentences" / "wav" / turn.rpartition("_")[0]
            yield {
                "id": turn,
                "path": files.get(turn, folder / f"{turn}.wav"),  # a missing file is skipped, with this path
                "speaker": session + letter,
                "gender": "female" if letter == "F" else "male",
                "session": session,
                "emotion": self.merged.get(emotion or "", emotion),
                "votes": self._votes(label),
                "text": spoken.get(turn),
                **label.dimensions,
                "extra": {"part": part},
            }

    def _votes(self, label: _Label) -> dict[str, int]:
        """Raters by emotion; a rater who names both happy and excited counts once where these are merged."""
        named = ({self.merged.get(emotion, emotion) for emotion in emotions} for emotions in label.votes)
        return dict(Counter(emotion for emotions in named for emotion in sorted(emotions)))

    def folds(
        self, manifest: Manifest, protocol: str | None = None, num_folds: int | None = None, seed: int = 0
    ) -> list[Fold]:
        if num_folds is None and protocol == "speaker":
            return _leave_one_speaker_out(manifest)
        if num_folds is None and protocol == "superb":
            return _superb(manifest)
        return super().folds(manifest, protocol, num_folds, seed)


def _expected(labels: str) -> dict[str, dict[Any, int]]:
    """Counts of the complete release."""
    counts = {"angry": 1103, "happy": 595 + 1041, "neutral": 1708, "sad": 1084}
    if labels == "4class":
        speakers = {"1F": 528, "1M": 557, "2F": 481, "2M": 542, "3F": 522}
        speakers |= {"3M": 629, "4F": 528, "4M": 503, "5F": 590, "5M": 651}
        return {"emotion": counts, "speaker": speakers}
    if labels == "5class":
        return {"emotion": {**counts, "frustrated": 1849}}
    rare: dict[Any, int] = {"fearful": 40, "surprised": 107, "disgusted": 2, "other": 3, None: 2507}
    return {"emotion": {**rare, **counts, "happy": 595, "excited": 1041, "frustrated": 1849}}


def _read_labels(root: Path) -> dict[str, _Label]:
    """{turn: label} of all dialogues; the folders below EmoEvaluation are for single raters and are not read."""
    labels: dict[str, _Label] = {}
    for path in sorted(root.rglob("EmoEvaluation/Ses0*.txt")):
        label = None
        for number, line in enumerate(path.read_text("latin-1").splitlines(), 1):
            if line[:1] == "[" and line[1:2].isdigit():  # the heading begins with a bracket as well
                match = _LINE.match(line)
                name = re.fullmatch(_TURN, match[1]) if match else None
                if match is None or name is None or match[2] not in EMOTIONS:
                    raise ValueError(
                        f"{path}, line {number}: expected [start - end], turn, emotion, [V, A, D]; got {line!r}."
                    )
                means = zip(("valence", "arousal", "dominance"), match.groups()[2:], strict=True)
                dimensions = {axis: fraction_of_scale(float(mean), 1, 5) for axis, mean in means}
                label = labels[match[1]] = _Label(name, match[2], dimensions, [])
            elif label is not None and (vote := _VOTE.match(line)):
                words = [word.strip() for word in vote[1].split(";") if word.strip()]
                label.votes.append([RATERS_WORDS.get(word, word.lower()) for word in words])
    return labels


def _read_transcriptions(root: Path) -> dict[str, str]:
    """{turn: transcription}; empty without the folder."""
    lines = (
        line
        for path in sorted(root.rglob("transcriptions/Ses0*.txt"))
        for line in path.read_text("latin-1").splitlines()
    )
    return {match[1]: match[2].strip() for line in lines if (match := _SPOKEN.match(line))}


def _leave_one_speaker_out(manifest: Manifest) -> list[Fold]:
    """Test is a speaker, dev the other one of the session, train the other sessions."""
    speaker = dict(zip(manifest.ids, manifest.column("speaker"), strict=True))
    folds = []
    for test in sorted(set(speaker.values())):
        dev = test[0] + {"F": "M", "M": "F"}[test[1]]
        train = tuple(name for name in manifest.ids if speaker[name][0] != test[0])
        own = {one: tuple(name for name in manifest.ids if speaker[name] == one) for one in (dev, test)}
        folds.append(Fold(test, train, own[dev], own[test]))
    return folds


def _superb(manifest: Manifest) -> list[Fold]:
    """Test is a session, dev a random fifth of the turns of the others."""
    import torch

    session = dict(zip(manifest.ids, manifest.column("session"), strict=True))
    folds = []
    for test in sorted(set(session.values())):
        rest = sorted(name for name in manifest.ids if session[name] != test)
        draw = torch.randperm(len(rest), generator=torch.Generator().manual_seed(0)).tolist()
        order = [rest[index] for index in draw]
        num_train = int((1 - DEV_FRACTION) * len(rest))
        held_out = tuple(name for name in manifest.ids if session[name] == test)
        folds.append(Fold(test, tuple(order[:num_train]), tuple(order[num_train:]), held_out, dev_shares_speakers=True))
    return folds
