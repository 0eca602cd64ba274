"""EmoTale on a tree of the release's file names and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from undertone.corpora import load_corpus
from undertone.corpora.folds import check_folds
from undertone.tests.corpora.trees import clip, facts, prepared

RATINGS = """file,a1_A,a1_V,a1_D,a1_cat,a2_A,a2_V,a2_D,a2_cat,a3_A,a3_V,a3_D,a3_cat,gt_emotion
DK_001_A_1.wav,5,1.5,3,A,4,1,3,A,3,0.5,3,N,A
EN_001_B_2.wav,1,2,3,bored,1,2,3,bored,1,2,3,sad,B
"""
NAMES = ["DK_001_A_1", "DK_002_H_1", "DK_003_S_5", "DK_004_N_1", "EN_001_B_2", "EN_002_N_1"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in NAMES:
        clip(tmp_path / "wav" / f"{name}.wav")
    (tmp_path / "annotations.csv").write_text(RATINGS)
    (tmp_path / "speaker_info.csv").write_text("speaker,gender,age\n001,F,25\n2,M,30\n003,female,31\n")
    return tmp_path


@pytest.mark.parametrize("inside", ["", "wav"])
def test_names_ratings_and_genders(inside: str, tree: Path) -> None:
    found = prepared("emotale", tree / inside)
    rated = facts(found, "speaker", "gender", "emotion", "language", "arousal", "valence", "dominance", "votes")
    assert rated == {
        "DK_001_A_1": ("001", "female", "angry", "danish", 0.75, 0.0, 0.5, {"angry": 2, "neutral": 1}),
        "DK_002_H_1": ("002", "male", "happy", "danish", None, None, None, None),
        "DK_003_S_5": ("003", "female", "sad", "danish", None, None, None, None),
        "DK_004_N_1": ("004", None, "neutral", "danish", None, None, None, None),
        "EN_001_B_2": ("001", "female", "bored", "english", 0.0, 0.25, 0.5, {"bored": 2, "sad": 1}),
        "EN_002_N_1": ("002", "male", "neutral", "english", None, None, None, None),
    }
    assert any("angry 1 (not 160)" in line for line in found.warnings)


def test_a_speaker_is_one_in_both_languages(tree: Path) -> None:
    corpus, manifest = load_corpus("emotale"), prepared("emotale", tree).manifest
    folds = corpus.folds(manifest)
    assert [fold.name for fold in folds] == ["001", "002", "003", "004"] and check_folds(folds, manifest) == []
    assert folds[0].test == ("DK_001_A_1", "EN_001_B_2")
    danish = prepared("emotale", tree, language="danish").manifest
    assert len(danish) == 4 and load_corpus("emotale", {"language": "danish"}).expected["emotion"]["sad"] == 90


def test_without_tables_and_with_bad_ones(tree: Path) -> None:
    (tree / "annotations.csv").write_text(RATINGS.replace("1.5", "low"))
    with pytest.raises(ValueError, match=r"annotations\.csv, DK_001_A_1\.wav: .*'low'.*expected 1 to 5"):
        prepared("emotale", tree)
    (tree / "annotations.csv").write_text("clip,a1_A\nDK_001_A_1.wav,5\n")
    with pytest.raises(ValueError, match=r"annotations\.csv has no column 'file'"):
        prepared("emotale", tree)
    for name in ("annotations.csv", "speaker_info.csv"):
        (tree / name).unlink()
    found = prepared("emotale", tree)
    assert set(found.manifest.column("gender")) == {None} and not any(one.votes for one in found.manifest)
    assert "There is no speaker_info.csv, so no gender is known." in found.warnings
