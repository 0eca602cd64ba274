"""IEMOCAP on a made-up tree of its real file names and lines of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from undertone.corpora import load_corpus
from undertone.corpora.folds import check_folds
from undertone.corpora.manifest import Manifest
from undertone.corpora.prepare import prepare

HEADING = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
TURNS = {  # turn: agreement, [V, A, D], lines of the raters and of the actors
    "Ses01F_impro01_F000": ("neu", "2.5000, 2.5000, 2.5000", ["C-E2:\tNeutral;\t()", "C-E3:\tNeutral;\t()"]),
    "Ses01F_impro01_M000": ("exc", "5.5000, 4.0000, 1.0000", ["C-E2:\tHappiness; Excited;\t()", "C-E3:\tExcited;\t()"]),
    "Ses01F_script01_1b_M001": ("ang", "1.0000, 5.0000, 4.0000", ["C-E2:\tAnger;\t()", "C-E4:\tFrustration;\t(hm)"]),
    "Ses02M_impro05a_F003": ("sad", "2.0000, 2.0000, 2.0000", ["C-E1:\tSadness;\t()", "C-F2:\tAnger;\t()"]),
    "Ses02M_impro05a_M004": ("fru", "2.0000, 3.0000, 3.0000", ["C-E1:\tFrustration;\t()"]),
    "Ses02M_script03_2_F010": ("hap", "4.0000, 3.0000, 3.0000", ["C-E1:\tHappiness;\t()"]),
    "Ses03F_impro08b_M011": (
        "xxx",
        "3.0000, 3.0000, 3.0000",
        ["C-E1:\tNeutral;\t()", "A-E1:\tval 3; act 3; dom  ;\t()"],
    ),
    "Ses03F_impro08b_F011": ("sur", "3.0000, 3.0000, 3.0000", ["C-E1:\tSurprise;\t()"]),
}


def session(turn: str) -> str:
    return f"Session{turn[4]}"


def write_labels(root: Path, turns: dict[str, tuple[str, str, list[str]]]) -> None:
    """EmoEvaluation and transcriptions as the release writes them."""
    for turn, (code, means, raters) in turns.items():
        dialog = turn.rpartition("_")[0]
        labels = root / session(turn) / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        spoken = root / session(turn) / "dialog" / "transcriptions" / f"{dialog}.txt"
        for path in (labels, spoken):
            path.parent.mkdir(parents=True, exist_ok=True)
        before = labels.read_text() if labels.exists() else HEADING
        lines = [f"[6.2901 - 8.2357]\t{turn}\t{code}\t[{means}]", *raters, "A-E3:\tval 3; act 2; dom  2;\t()", "", ""]
        labels.write_text(before + "\n".join(lines))
        with spoken.open("a") as file:
            file.write(f"{turn} [006.2901-008.2357]: Said in {turn[-4:]}.\n")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_labels(tmp_path, TURNS)
    for seed, turn in enumerate(TURNS):
        path = tmp_path / session(turn) / "sentences" / "wav" / turn.rpartition("_")[0] / f"{turn}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, 8000), 16000)
    evaluation = tmp_path / "Session1" / "dialog" / "EmoEvaluation"
    for folder in ("Attribute", "Categorical", "Self-evaluation"):
        (evaluation / folder).mkdir()
        (evaluation / folder / "Ses01F_impro01_e2_cat.txt").write_text("Ses01F_impro01_F000 :Anger; ()\n")
    (evaluation / "._Ses01F_impro01.txt").write_bytes(b"\x00\x05left by a Mac")
    whole = tmp_path / "Session1" / "dialog" / "wav" / "Ses01F_impro01.wav"
    whole.parent.mkdir()
    soundfile.write(whole, np.zeros(8000), 16000)
    return tmp_path


def test_the_speaker_is_the_letter_of_the_last_token(tree: Path) -> None:
    manifest = prepare(load_corpus("iemocap"), tree).manifest
    assert {u.id: (u.speaker, u.gender, u.session) for u in manifest} == {
        "Ses01F_impro01_F000": ("1F", "female", "1"),
        "Ses01F_impro01_M000": ("1M", "male", "1"),
        "Ses01F_script01_1b_M001": ("1M", "male", "1"),
        "Ses02M_impro05a_F003": ("2F", "female", "2"),
        "Ses02M_script03_2_F010": ("2F", "female", "2"),
    }


@pytest.mark.parametrize(
    ("options", "emotions"),
    [
        ({}, ["neutral", "happy", "angry", "sad", "happy"]),
        ({"labels": "5class"}, ["neutral", "happy", "angry", "sad", "frustrated", "happy"]),
        (
            {"labels": "all"},
            ["neutral", "excited", "angry", "sad", "frustrated", "happy", "surprised", None],
        ),
        ({"part": "improvised"}, ["neutral", "happy", "sad"]),
        ({"labels": "all", "part": "scripted"}, ["angry", "happy"]),
    ],
)
def test_labels_and_parts(tree: Path, options: dict[str, str], emotions: list[str | None]) -> None:
    manifest = prepare(load_corpus("iemocap", options), tree).manifest
    assert manifest.column("emotion") == emotions
    assert set(manifest.labels("part")) == {
        {"impro": "improvised", "scrip": "scripted"}[name[7:12]] for name in manifest.ids
    }


def test_dimensions_votes_and_text(tree: Path) -> None:
    merged = {u.id: u for u in prepare(load_corpus("iemocap"), tree).manifest}
    apart = {u.id: u for u in prepare(load_corpus("iemocap", {"labels": "all"}), tree).manifest}
    excited = merged["Ses01F_impro01_M000"]
    assert (excited.valence, excited.arousal, excited.dominance) == (1.0, 0.75, 0.0), "5.5 is beyond the scale"
    assert excited.votes == {"happy": 2} and apart[excited.id].votes == {"excited": 2, "happy": 1}
    assert merged["Ses01F_script01_1b_M001"].votes == {"angry": 1, "frustrated": 1}
    assert merged["Ses02M_impro05a_F003"].votes == {"sad": 1}, "the actors' own answers are no votes"
    assert excited.text == "Said in M000."


def test_counts_of_the_release_are_expected() -> None:
    four, five, everything = (load_corpus("iemocap", {"labels": name}).expected for name in ("4class", "5class", "all"))
    assert four["emotion"] == {"neutral": 1708, "happy": 1636, "angry": 1103, "sad": 1084}
    assert sum(four["emotion"].values()) == sum(four["speaker"].values()) == 5531
    assert sum(five["emotion"].values()) == 7380 and sum(everything["emotion"].values()) == 10039
    assert load_corpus("iemocap", {"part": "improvised"}).expected == {}


def test_a_missing_file_is_set_aside_and_missing_labels_are_refused(tree: Path) -> None:
    path = tree / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav"
    path.rename(tree / "kept.wav")
    prepared = prepare(load_corpus("iemocap"), tree)
    assert prepared.broken == [(str(path), "no such file.")] and len(prepared.manifest) == 4
    (tree / "kept.wav").rename(path)
    (tree / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt").unlink()
    with pytest.raises(
        ValueError, match=r"2 files such as .*Ses01F_impro01_F000\.wav have no label in any dialog/EmoEv"
    ):
        prepare(load_corpus("iemocap"), tree)


@pytest.mark.parametrize("wrong", [("nue", "2.5, 2.5, 2.5"), ("neu", "2.5, 2.5")])
def test_a_bad_line_is_named(tree: Path, wrong: tuple[str, str]) -> None:
    write_labels(tree, {"Ses04F_impro01_F000": (*wrong, [])})
    with pytest.raises(ValueError, match=r"Ses04F_impro01\.txt, line 3: expected \[start - end\], turn, emotion"):
        prepare(load_corpus("iemocap"), tree)


def test_wrong_options() -> None:
    with pytest.raises(ValueError, match="iemocap has no labels=5clas. Did you mean '5class'"):
        load_corpus("iemocap", {"labels": "5clas"})
    with pytest.raises(ValueError, match="iemocap has no part=impro. Did you mean 'improvised'"):
        load_corpus("iemocap", {"part": "impro"})


SESSIONS = {"1": 1085, "2": 1023, "3": 1151, "4": 1031, "5": 1241}  # of the four classes, as measured


@pytest.fixture(scope="module")
def full() -> Manifest:
    """As many turns of the four classes as each session has, by its two speakers in turn."""
    rows = [
        {
            "id": f"Ses0{number}F_impro{turn // 100:02d}_{'FM'[turn % 2]}{turn % 100:03d}",
            "path": "x",
            "speaker": number + "FM"[turn % 2],
            "session": number,
            "emotion": ("angry", "happy", "neutral", "sad")[turn % 4],
        }
        for number, count in SESSIONS.items()
        for turn in range(count)
    ]
    return Manifest.from_rows("iemocap", rows)


def test_sessions(full: Manifest) -> None:
    folds = load_corpus("iemocap").folds(full)
    assert [(fold.name, len(fold.test)) for fold in folds] == list(SESSIONS.items())
    assert check_folds(folds, full) == [] and not any(fold.dev_shares_speakers for fold in folds)


def test_dev_of_a_speaker_is_the_other_one_of_the_session(full: Manifest) -> None:
    folds = load_corpus("iemocap").folds(full, "speaker")
    assert [fold.name for fold in folds] == ["1F", "1M", "2F", "2M", "3F", "3M", "4F", "4M", "5F", "5M"]
    assert check_folds(folds, full) == []
    for fold in folds:
        speakers = [{u.speaker for u in full.select(part)} for part in (fold.train, fold.dev, fold.test)]
        assert speakers[1] == {fold.name[0] + {"F": "M", "M": "F"}[fold.name[1]]} and speakers[2] == {fold.name}
        assert len(speakers[0]) == 8 and all(speaker[0] != fold.name[0] for speaker in speakers[0])


def test_superb_has_the_published_sizes_and_says_that_dev_shares_speakers(full: Manifest) -> None:
    corpus = load_corpus("iemocap")
    corpus.check_protocol("superb")
    folds = corpus.folds(full, "superb")
    assert [len(fold.train) for fold in folds] == [3556, 3606, 3504, 3600, 3432]
    assert [len(fold.dev) for fold in folds] == [890, 902, 876, 900, 858]
    assert [len(fold.test) for fold in folds] == list(SESSIONS.values())
    assert all(fold.dev_shares_speakers and fold.speaker_independent for fold in folds)
    assert check_folds(folds, full) == [] and folds == corpus.folds(full, "superb", seed=5)


def test_superbs_draw_is_that_of_random_split(full: Manifest) -> None:
    rest = sorted(name for name in full.ids if name[4] != "1")
    torch.manual_seed(0)
    train, dev = torch.utils.data.random_split(rest, [3556, 890])
    fold = load_corpus("iemocap").folds(full, "superb")[0]
    assert fold.train == tuple(train) and fold.dev == tuple(dev)


@pytest.mark.parametrize("size", [5, 100, 4290])
def test_the_draw_is_a_mersenne_twisters_on_every_machine(size: int) -> None:
    """NumPy's twister and a Fisher-Yates shuffle from the front: if torch ever draws otherwise, the folds change."""
    numbers = np.random.RandomState(0).randint(0, 2**32, size=size, dtype=np.uint32).tolist()
    order = list(range(size))
    for place in range(size - 1):
        other = place + numbers[place] % (size - place)
        order[place], order[other] = order[other], order[place]
    assert torch.randperm(size, generator=torch.Generator().manual_seed(0)).tolist() == order
