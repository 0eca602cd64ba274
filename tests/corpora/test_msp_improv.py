"""MSP-IMPROV on a tree of the release's file names and table."""

from __future__ import annotations

from pathlib import Path

import pytest

from undertone.corpora import load_corpus
from undertone.corpora.folds import check_folds
from undertone.tests.corpora.trees import clip, facts, prepared

TABLE = """UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:2.000; V:3.000; D:5.000 ; N:3.800;
rater01; Neutral; Neutral,Happy; A:2.0; V:3.0; D:5.0; N:4.0;
rater-02; Happy; Happy; A:2.0; V:3.0; D:5.0; N:4.0;

UTD-IMPROV-S01A-M01-R-MF02.avi; A; A:NaN; V:1.000; D:1.000 ; N:NaN;
rater01; Angry; ; A:NaN; V:1.0; D:1.0; N:NaN;

UTD-IMPROV-S02H-F02-S-FM03.avi; H; A:5.000; V:5.000; D:3.000 ; N:3.800;
rater01; Happy; ; A:5.0; V:5.0; D:3.0; N:NaN;

UTD-IMPROV-S20S-M06-T-MM04.avi; S; A:1.000; V:1.000; D:3.000 ; N:3.800;

UTD-IMPROV-S20S-M06-T-MM05.avi; X; A:1.000; V:1.000; D:3.000 ; N:3.800;
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "Evalution.txt").write_text(TABLE)
    for line in TABLE.splitlines():
        if line.startswith("UTD-"):
            turn = f"MSP-{line[4:26]}"
            clip(tmp_path / f"session{turn[18]}" / turn[11:15] / turn[20] / f"{turn}.wav")
    return tmp_path


@pytest.mark.parametrize("name", ["Evalution.txt", "Evaluation.txt"])
def test_labels_of_the_table(name: str, tree: Path) -> None:
    (tree / "Evalution.txt").rename(tree / name)
    found = prepared("msp_improv", tree)
    columns = ("speaker", "gender", "session", "emotion", "text", "arousal", "valence", "dominance", "votes", "kind")
    assert facts(found, *columns) == {
        "MSP-IMPROV-S01A-F01-P-FM01": (
            *("F01", "female", "1", "neutral", None, 0.25, 0.5, 1.0),
            *({"neutral": 1, "happy": 1}, "natural"),
        ),
        "MSP-IMPROV-S01A-M01-R-MF02": (
            *("M01", "male", "1", "angry", "01A", None, 0.0, 0.0),
            *({"angry": 1}, "read target"),
        ),
        "MSP-IMPROV-S02H-F02-S-FM03": (
            *("F02", "female", "2", "happy", None, 1.0, 1.0, 0.5),
            *({"happy": 1}, "improvised"),
        ),
        "MSP-IMPROV-S20S-M06-T-MM04": (
            *("M06", "male", "6", "sad", "20S", 0.0, 0.0, 0.5),
            *({}, "improvised target"),
        ),
    }
    folds = load_corpus("msp_improv").folds(found.manifest)
    assert [fold.name for fold in folds] == ["1", "2", "6"] and check_folds(folds, found.manifest) == []


def test_all_labels_and_files_of_no_label(tree: Path) -> None:
    clip(tree / "MSP-IMPROV-S03N-F03-P-FM01.wav")
    found = prepared("msp_improv", tree, labels="all")
    assert found.manifest.column("emotion").count(None) == 1 and len(found.manifest) == 5
    assert "1 files such as MSP-IMPROV-S03N-F03-P-FM01 have no label and are left out." in found.warnings


def test_a_bad_line_or_no_table(tree: Path) -> None:
    (tree / "Evalution.txt").write_text("UTD-IMPROV-S01A-F01-P-FM01.avi; Q; A:2; V:3; D:5 ; N:3.8;\n")
    with pytest.raises(ValueError, match=r"Evalution\.txt, line 1: expected UTD-turn\.avi; label"):
        prepared("msp_improv", tree)
    (tree / "Evalution.txt").unlink()
    with pytest.raises(ValueError, match=r"msp_improv: no Evalution\.txt in "):
        prepared("msp_improv", tree)
