"""MELD on a tree of the release's file names and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from undertone.corpora import load_corpus
from undertone.corpora.folds import check_folds
from undertone.corpora.meld import PARTS
from undertone.tests.corpora.trees import clip, facts, prepared

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
ROWS = {  # part: (speaker, emotion, dialogue, utterance)
    "train": [("Joey", "joy", 0, 0), ("Monica", "fear", 0, 1), ("Joey", "anger", 125, 3), ("Ross", "neutral", 1, 0)],
    "dev": [("Joey", "neutral", 0, 0), ("Phoebe", "disgust", 1, 0), ("Phoebe", "surprise", 110, 7)],
    "test": [("Joey", "sadness", 0, 0), ("Janice", "surprise", 1, 0), ("Joey", "joy", 38, 4), ("Ross", "joy", 220, 0)],
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for part, rows in ROWS.items():
        folder, table = PARTS[part]
        lines = [HEADER]
        for number, (speaker, emotion, dialogue, utterance) in enumerate(rows, 1):
            stem = f"dia{dialogue}_utt{utterance}"
            lines.append(f'{number},"Oh, {stem}!",{speaker},{emotion},neutral,{dialogue},{utterance},8,21,"0:0","0:1"')
            if stem != "dia110_utt7":
                clip(tmp_path / folder / f"{stem}.wav")
                (tmp_path / folder / f"{stem}.mp4").write_bytes(b"video")
        (tmp_path / table).write_text("\n".join(lines))
    clip(tmp_path / "output_repeated_splits_test" / "final_videos_testdia4_utt9.wav")
    return tmp_path


def test_names_repeat_in_the_parts(tree: Path) -> None:
    found = prepared("meld", tree)
    assert facts(found, "speaker", "gender", "emotion", "split", "text", "dialogue") == {
        "train_dia0_utt0": ("Joey", None, "happy", "train", "Oh, dia0_utt0!", "train0"),
        "train_dia0_utt1": ("Monica", None, "fearful", "train", "Oh, dia0_utt1!", "train0"),
        "train_dia1_utt0": ("Ross", None, "neutral", "train", "Oh, dia1_utt0!", "train1"),
        "dev_dia0_utt0": ("Joey", None, "neutral", "dev", "Oh, dia0_utt0!", "dev0"),
        "dev_dia1_utt0": ("Phoebe", None, "disgusted", "dev", "Oh, dia1_utt0!", "dev1"),
        "test_dia0_utt0": ("Joey", None, "sad", "test", "Oh, dia0_utt0!", "test0"),
        "test_dia1_utt0": ("Janice", None, "surprised", "test", "Oh, dia1_utt0!", "test1"),
    }
    assert not found.broken


def test_broken_and_endless_clips_are_left_out_and_named(tree: Path) -> None:
    warnings = prepared("meld", tree).warnings
    left_out = "train_dia125_utt3, dev_dia110_utt7, test_dia38_utt4, test_dia220_utt0"
    assert any(f"4 clips that are broken or last minutes are left out: {left_out}." in line for line in warnings)
    assert any("1 audio file with another name" in line and "final_videos_testdia4_utt9" in line for line in warnings)
    assert any("train 3 (not 9988), dev 2 (not 1108), test 2 (not 2608)" in line for line in warnings)
    assert any("happy 1 (not 2306)" in line for line in warnings)  # the complete release, less those two


def test_the_official_split_says_that_it_is_speaker_dependent(tree: Path) -> None:
    corpus, manifest = load_corpus("meld"), prepared("meld", tree).manifest
    (fold,) = corpus.folds(manifest)
    assert (fold.name, len(fold.train), len(fold.dev), len(fold.test)) == ("split", 3, 2, 2)
    assert not fold.speaker_independent and check_folds([fold], manifest) == []
    groups = corpus.folds(manifest, "groups")
    assert all(fold.speaker_independent for fold in groups) and check_folds(groups, manifest) == []


def test_videos_alone_say_how_to_get_their_audio(tree: Path) -> None:
    for path in tree.rglob("*.wav"):
        path.unlink()
    with pytest.raises(ValueError, match=r"meld: 4 videos .* no audio .* ffmpeg -i dia0_utt0\.mp4 .* dia0_utt0\.wav"):
        prepared("meld", tree)


def test_a_missing_clip_is_named_and_a_bad_table_refused(tree: Path) -> None:
    (tree / "train_splits" / "dia0_utt0.wav").unlink()
    assert [Path(path).name for path, _ in prepared("meld", tree).broken] == ["dia0_utt0.wav"]
    (tree / "dev_sent_emo.csv").write_text(f"{HEADER}\n1,Oh,Joey,glee,neutral,0,0,8,21,0,0\n")
    with pytest.raises(ValueError, match=r"dev_sent_emo\.csv, line 2: expected an Emotion of .*glee"):
        prepared("meld", tree)
    (tree / "dev_sent_emo.csv").unlink()
    with pytest.raises(ValueError, match=r"meld: no dev_sent_emo\.csv under"):
        prepared("meld", tree)
