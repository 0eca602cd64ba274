"""MSP-Podcast on a tree of the releases' file names and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from undertone.corpora import load_corpus
from undertone.corpora.folds import check_folds
from undertone.corpora.msp_podcast import CODES, EMOTIONS
from undertone.tests.corpora.trees import clip, facts, prepared

HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
ROWS = [  # as in a release; {dev} is Validation or Development
    "MSP-PODCAST_0001_0001.wav,A,7,1,4,12,Male,Train",
    "MSP-PODCAST_0001_0002.wav,C,4.0,2.5,4,12,Male,Train",
    "MSP-PODCAST_0001_0003.wav,X,4,4,4,12,Male,Train",
    "MSP-PODCAST_0002_0001.wav,O,4,4,4,13,Female,Train",
    "MSP-PODCAST_0003_0001.wav,H,5,6,4,20,Female,{dev}",
    "MSP-PODCAST_0004_0001.wav,U,5,4,4,30,Female,Test1",
    "MSP-PODCAST_0004_0002.wav,N,4,4,4,Unknown,Unknown,Test1",
    "MSP-PODCAST_0005_0001.wav,S,2,2,2,Unknown,Unknown,Test2",
    "MSP-PODCAST_0006_0001.wav,,,,,,,Test3",
]
DETAILED = """FileName,EmoDetail
MSP-PODCAST_0001_0001.wav,"WORKER1; Angry; Angry,Annoyed; A:7.000; V:1.000; D:4.000;"
MSP-PODCAST_0001_0001.wav,"WORKER2; Other-Sarcastic; ; A:7.000; V:1.000; D:4.000;"
MSP-PODCAST_0001_0001.wav,"WORKER3; Angry; Angry; A:7.000; V:1.000; D:4.000;"
"""
EARLY = "FileName,Workers,EmoClass_Major,EmoClass_Second\nMSP-PODCAST_0001_0001.wav,WORKER1,Angry,Annoyed\n"


def write(root: Path, table: str = "labels_consensus.csv", dev: str = "Development") -> Path:
    (root / "Labels").mkdir(parents=True)
    (root / "Labels" / table).write_text("\n".join([HEADER, *ROWS]).format(dev=dev))
    (root / "Labels" / "labels_detailed.csv").write_text(DETAILED)
    for row in ROWS:
        clip(root / "Audios" / row.split(",")[0])
    return root


@pytest.mark.parametrize(
    ("table", "dev"), [("labels_consensus.csv", "Development"), ("labels_concensus.csv", "Validation")]
)
def test_both_spellings_of_the_table_and_of_dev(table: str, dev: str, tmp_path: Path) -> None:
    found = prepared("msp_podcast", write(tmp_path, table, dev))
    assert facts(found, "speaker", "gender", "emotion", "split", "arousal", "valence", "dominance", "votes") == {
        "MSP-PODCAST_0001_0001": ("12", "male", "angry", "train", 1.0, 0.0, 0.5, {"angry": 2, "other": 1}),
        "MSP-PODCAST_0001_0002": ("12", "male", "contemptuous", "train", 0.5, 0.25, 0.5, None),
        "MSP-PODCAST_0003_0001": ("20", "female", "happy", "dev", 4 / 6, 5 / 6, 0.5, None),
        "MSP-PODCAST_0004_0001": ("30", "female", "surprised", "test", 4 / 6, 0.5, 0.5, None),
        "MSP-PODCAST_0004_0002": (None, None, "neutral", "test", 0.5, 0.5, 0.5, None),
    }
    assert "1 turns of Test2 are left out." in found.warnings and "1 turns of Test3 are left out." in found.warnings


def test_unknown_speakers_withdraw_the_claim_or_are_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    corpus, found = load_corpus("msp_podcast"), prepared("msp_podcast", tmp_path)
    (fold,) = corpus.folds(found.manifest)
    assert fold.name == "split" and not fold.speaker_independent and check_folds([fold], found.manifest) == []
    assert any("1 turns have no known speaker" in line for line in found.warnings)
    known = prepared("msp_podcast", tmp_path, speakers="known")
    (fold,) = corpus.folds(known.manifest)
    assert fold.test == ("MSP-PODCAST_0004_0001",) and fold.speaker_independent


def test_options(tmp_path: Path) -> None:
    write(tmp_path)
    everything = facts(prepared("msp_podcast", tmp_path, labels="all"), "emotion")
    assert everything["MSP-PODCAST_0001_0003"] == (None,) and everything["MSP-PODCAST_0002_0001"] == ("other",)
    second = prepared("msp_podcast", tmp_path, test="test2", labels="4class")
    assert second.manifest.ids == ("MSP-PODCAST_0001_0001", "MSP-PODCAST_0003_0001", "MSP-PODCAST_0005_0001")
    with pytest.raises(ValueError, match="msp_podcast has no test=test3"):
        load_corpus("msp_podcast", {"test": "test3"})
    assert len({EMOTIONS[code] for code in CODES["8class"]}) == 8


def test_votes_of_early_releases(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "Labels" / "labels_detailed.csv").write_text(EARLY)
    assert prepared("msp_podcast", tmp_path).manifest[0].votes == {"angry": 1}


def test_a_missing_file_is_named_and_a_bad_table_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "Audios" / "MSP-PODCAST_0001_0001.wav").unlink()
    found = prepared("msp_podcast", tmp_path)
    assert [Path(path).name for path, _ in found.broken] == ["MSP-PODCAST_0001_0001.wav"]
    table = tmp_path / "Labels" / "labels_consensus.csv"
    for line, message in (
        ("MSP-PODCAST_0001_0002.wav,Q,4,4,4,1,Male,Train", "line 2: expected a Split_Set of .*'Q'"),
        ("MSP-PODCAST_0001_0002.wav,A,much,4,4,1,Male,Train", "line 2: could not convert"),
        ("MSP-PODCAST_0001_0002.wav,A,4", "line 2: the line ends before its EmoVal"),
    ):
        table.write_text(f"{HEADER}\n{line}\n")
        with pytest.raises(ValueError, match=message):
            prepared("msp_podcast", tmp_path)
    table.write_text("FileName,EmoClass\n")
    with pytest.raises(ValueError, match="has no column 'EmoAct'"):
        prepared("msp_podcast", tmp_path)
    table.unlink()
    with pytest.raises(ValueError, match=r"no Labels/labels_consensus\.csv \(older releases: labels_concensus\.csv\)"):
        prepared("msp_podcast", tmp_path)
