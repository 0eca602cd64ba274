"""MSP-Podcast: natural English speech from podcasts, 8 emotions and 3 dimensions; every release from 1.6 on.

`Audios/MSP-PODCAST_0001_0008.wav`, 16 kHz, and `Labels/labels_consensus.csv` with FileName, EmoClass, EmoAct, EmoVal,
EmoDom, SpkrID, Gender and Split_Set. Older releases spell the table `labels_concensus.csv` and call the development
part `Validation`; both are read. The root is the release, with Audios and Labels.

`labels`, the agreement of the raters:
    `8class`  angry, sad, happy, surprised, fearful, disgusted, contemptuous, neutral: the challenges' classes
    `4class`  angry, happy, neutral, sad
    `all`     these 8, other (O), and the turns without an agreement (X; no emotion)
Turns with another label are left out. `test` is `test1` or `test2`: one official test part a run; turns of the other
one are left out, and so are those of Test3, whose labels are not published.

Arousal, valence and dominance, 1-7, become 0..1, (x - 1) / 6. Votes come from `labels_detailed.csv` where it lies
there: primary emotions, in either form of the table; an emotion of a rater's own words counts as other. Transcripts are
not read.

A SpkrID `Unknown` is no speaker: such turns, of Test2 above all, cannot be checked for leaks, so that a run with them
does not claim to be speaker-independent. `speakers=known` leaves them out. The protocol is the official split. Written
from the tables that published code reads, not confirmed on a release; counts differ by release, so none are checked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undertone.corpora.corpus import Corpus, check_choice, find_audio, fraction_of_scale, read_rows

EMOTIONS = {
    "A": "angry",
    "S": "sad",
    "H": "happy",
    "U": "surprised",
    "F": "fearful",
    "D": "disgusted",
    "C": "contemptuous",
    "N": "neutral",
    "O": "other",
    "X": None,
}
RATERS_WORDS = {
    "Angry": "angry",
    "Sad": "sad",
    "Happy": "happy",
    "Surprise": "surprised",
    "Fear": "fearful",
    "Disgust": "disgusted",
    "Contempt": "contemptuous",
    "Neutral": "neutral",
}
CODES = {"8class": "ASHUFDCN", "4class": "AHNS", "all": "".join(EMOTIONS)}
SPLITS = {"train": "train", "development": "dev", "validation": "dev", "test1": "test", "test2": "test"}
HIDDEN = "test3"
TABLES = ("labels_consensus.csv", "labels_concensus.csv")
DIMENSIONS = {"EmoAct": "arousal", "EmoVal": "valence", "EmoDom": "dominance"}

_COLUMNS = ("FileName", "EmoClass", *DIMENSIONS, "SpkrID", "Gender", "Split_Set")
_VOTES = "labels_detailed.csv"


class MspPodcast(Corpus):
    """MSP-Podcast; 8, 4 or all labels; the official split."""

    name = "msp_podcast"
    licence = "UTD academic licence"
    url = "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html"
    citation = (
        "R. Lotfian, C. Busso: Building naturalistic emotionally balanced speech corpus by retrieving emotional speech "
        "from existing podcast recordings. IEEE Transactions on Affective Computing 10(4), 471-483, 2019."
    )
    language = "English"
    num_classes = 8
    pitfalls = (
        "Loaders know one spelling of the table, or one name of the development part. `Unknown` is not a speaker."
    )
    default_protocol = "split"

    def __init__(self, *, labels: str = "8class", test: str = "test1", speakers: str = "all") -> None:
        """Choose the turns.

        Args:
            labels: `8class`, `4class` or `all`.
            test: `test1` or `test2`.
            speakers: `all`, or `known` to leave out turns of unknown speakers.
        """
        check_choice(self.name, "labels", labels, tuple(CODES))
        check_choice(self.name, "test", test, ("test1", "test2"))
        check_choice(self.name, "speakers", speakers, ("all", "known"))
        self.labels, self.test, self.speakers = labels, test, speakers
        what = "all emotions" if labels == "all" else f"{labels[0]} emotions"
        self.variant = f"{what}; {test}" + ("; known speakers" if speakers == "known" else "")

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        folder = root / "Audios" if (root / "Audios").is_dir() else root
        example = "Audios/MSP-PODCAST_0001_0008.wav"
        files = {path.stem: path for path, _ in find_audio(folder, r"MSP-PODCAST_[\d_]+", example, self)}
        path = _table(root)
        votes = _read_votes(path.parent / _VOTES)
        left_out: Counter[str] = Counter()
        unknown = 0
        for number, row in read_rows(path, _COLUMNS):
            stem, split = Path(row["FileName"]).stem, row["Split_Set"].lower()
            if split == HIDDEN or (split in ("test1", "test2") and split != self.test):
                left_out[row["Split_Set"]] += 1
                continue
            code = row["EmoClass"]
            if split not in SPLITS or code not in EMOTIONS:
                raise ValueError(
                    f"{path}, line {number}: expected a Split_Set of {', '.join(SPLITS)}, {HIDDEN} and an EmoClass of "
                    f"{' '.join(EMOTIONS)}; got {row['Split_Set']!r} and {row['EmoClass']!r}."
                )
            speaker = None if row["SpkrID"].lower() in ("", "unknown", "nan") else row["SpkrID"]
            if code not in CODES[self.labels] or (speaker is None and self.speakers == "known"):
                continue
            unknown += speaker is None
            try:
                means = {axis: fraction_of_scale(float(row[name]), 1, 7) for name, axis in DIMENSIONS.items()}
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}. EmoAct, EmoVal and EmoDom are numbers.") from error
            yield {
                "id": stem,
                "path": files.get(stem, folder / f"{stem}.wav"),  # a missing file is skipped, with this path
                "speaker": speaker,
                "gender": {"male": "male", "female": "female"}.get(row["Gender"].lower()),
                "emotion": EMOTIONS[code],
                "votes": votes.get(stem),
                "split": SPLITS[split],
                **means,
            }
        self.notes = [f"{count} turns of {part} are left out." for part, count in sorted(left_out.items())]
        if unknown:
            self.notes.append(
                f"{unknown} turns have no known speaker, so that no split with them can claim to be "
                f"speaker-independent; corpus.speakers=known leaves them out."
            )


def _table(root: Path) -> Path:
    for folder in (root / "Labels", root, root.parent / "Labels"):
        for name in TABLES:
            if (folder / name).is_file():
                return folder / name
    raise ValueError(
        f"msp_podcast: no Labels/{TABLES[0]} (older releases: {TABLES[1]}) in {root}. "
        f"Give --root the folder of the release, with Audios and Labels."
    )


def _read_votes(path: Path) -> dict[str, dict[str, int]]:
    """{stem: {emotion: raters}} of the table of single raters; empty where it is missing.

    Its rows are `FileName,EmoDetail`, where the detail is `WORKER1; Neutral; Neutral,Concerned; A:3; V:4; D:3;`, and in
    early releases have a column `EmoClass_Major`.
    """
    if not path.is_file():
        return {}
    votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for number, row in read_rows(path, ("FileName",)):
        words = row.get("EmoDetail", "").split(";")
        word = row.get("EmoClass_Major") or (words[1].strip() if len(words) > 1 else "")
        if not word:
            raise ValueError(f"{path}, line {number}: expected a rater's EmoDetail or EmoClass_Major; got {row}.")
        votes[Path(row["FileName"]).stem][RATERS_WORDS.get(word, "other")] += 1
    return {stem: dict(counts) for stem, counts in votes.items()}
