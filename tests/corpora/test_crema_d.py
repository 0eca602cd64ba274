"""CREMA-D on a made-up tree of its real file names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from undertone.corpora import load_corpus
from undertone.corpora.crema_d import DEV, FEMALE, TEST
from undertone.corpora.folds import check_folds
from undertone.corpora.manifest import Manifest
from undertone.corpora.prepare import prepare

NAMES = ["1001_DFA_ANG_XX", "1002_IEO_HAP_LO", "1049_TSI_NEU_XX", "1091_MTI_SAD_XX"]
VOTES = """"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"
"100001",6,1,0,0,3,0,"1001_DFA_ANG_XX",10,0.6,"A"
"100002",0,0,0,2,7,0,"1002_IEO_HAP_LO",9,0.7778,"N"
"100003",0,0,0,0,8,0,"1049_TSI_NEU_XX",8,1,"N"
"100004",0,0,0,0,4,4,"1091_MTI_SAD_XX",8,0.5,"N:S"
"200001",0,0,0,9,0,0,"1001_DFA_ANG_XX",9,1,"H"
"300001",0,9,0,0,0,0,"1001_DFA_ANG_XX",9,1,"D"
"""


def write(path: Path, seed: int, level: float = 0.3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-level, level, 8000), 16000)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        write(tmp_path / "AudioWAV" / f"{name}.wav", seed)
    write(tmp_path / "AudioWAV" / "1076_MTI_SAD_XX.wav", 0, level=0)
    (tmp_path / "AudioMP3").mkdir()
    (tmp_path / "AudioMP3" / "1001_DFA_ANG_XX.mp3").write_text("the repository's other copy")
    (tmp_path / "processedResults").mkdir()
    (tmp_path / "processedResults" / "tabulatedVotes.csv").write_text(VOTES)
    return tmp_path


@pytest.mark.parametrize("inside", ["", "AudioWAV"])
def test_intended_labels(tree: Path, inside: str) -> None:
    corpus = load_corpus("crema_d")
    prepared = prepare(corpus, tree / inside)
    assert {u.id: (u.speaker, u.gender, u.emotion, u.split, u.extra, u.votes) for u in prepared.manifest} == {
        NAMES[0]: ("1001", "male", "angry", "train", {"level": "XX"}, None),
        NAMES[1]: ("1002", "female", "happy", "train", {"level": "LO"}, None),
        NAMES[2]: ("1049", "female", "neutral", "dev", {"level": "XX"}, None),
        NAMES[3]: ("1091", "female", "sad", "test", {"level": "XX"}, None),
    }
    assert prepared.manifest[0].text == "Don't forget a jacket" and corpus.variant == "intended emotions"
    assert [Path(path).name for path, _ in prepared.broken] == ["1076_MTI_SAD_XX.wav"]
    assert "silence" in prepared.broken[0][1] and "angry 1 (not 1271)" in prepared.warnings[0]


@pytest.mark.parametrize("inside", ["", "AudioWAV"])
def test_perceived_labels_are_those_of_raters_of_the_voice_alone(tree: Path, inside: str) -> None:
    (tree / "AudioWAV" / "1076_MTI_SAD_XX.wav").unlink()
    corpus = load_corpus("crema_d", {"labels": "perceived"})
    manifest = prepare(corpus, tree / inside).manifest
    assert {u.id: (u.emotion, u.votes) for u in manifest} == {
        NAMES[0]: ("angry", {"angry": 6, "disgusted": 1, "neutral": 3}),
        NAMES[1]: ("neutral", {"happy": 2, "neutral": 7}),
        NAMES[2]: ("neutral", {"neutral": 8}),
        NAMES[3]: (None, {"neutral": 4, "sad": 4}),
    }
    assert corpus.variant == "perceived emotions"


def test_the_votes_table_must_be_there_whole_and_readable(tree: Path) -> None:
    corpus, table = load_corpus("crema_d", {"labels": "perceived"}), tree / "processedResults" / "tabulatedVotes.csv"
    with pytest.raises(ValueError, match=r"has no votes for 1076_MTI_SAD_XX; take the complete table"):
        prepare(corpus, tree)
    table.write_text(VOTES.replace('"100002",0', '"100002",many'))
    with pytest.raises(ValueError, match=r"tabulatedVotes\.csv, line 3: expected a key, votes A D F H N S"):
        prepare(corpus, tree)
    table.unlink()
    with pytest.raises(ValueError, match=r"labels=perceived needs processedResults/tabulatedVotes\.csv in .*github"):
        prepare(corpus, tree)


def test_strangers_are_no_files_of_it(tree: Path) -> None:
    for name in ("1000_DFA_ANG_XX", "1092_DFA_ANG_XX", "1001_XXX_ANG_XX", "1001_DFA_ANG_MID"):
        write(tree / "AudioWAV" / f"{name}.wav", 0)
    assert len(prepare(load_corpus("crema_d"), tree).manifest) == 4


def test_wrong_labels() -> None:
    with pytest.raises(ValueError, match="crema_d has no labels=percieved. Did you mean 'perceived'"):
        load_corpus("crema_d", {"labels": "percieved"})
    with pytest.raises(ValueError, match="Corpus 'crema_d' has no option 'label'. Did you mean 'labels'"):
        load_corpus("crema_d", {"label": "perceived"})


def test_speakers_of_the_release() -> None:
    actors = [str(number) for number in range(1001, 1092)]
    assert len(FEMALE) == 43 and set(FEMALE) <= set(actors)
    assert (len(DEV), len(TEST)) == (18, 17) and not DEV & TEST and DEV | TEST <= set(actors)
    rows = [
        {
            "id": actor,
            "path": "x",
            "speaker": actor,
            "gender": "female" if actor in FEMALE else "male",
            "split": "dev" if actor in DEV else "test" if actor in TEST else "train",
        }
        for actor in actors
    ]
    manifest, corpus = Manifest.from_rows("crema_d", rows), load_corpus("crema_d")
    (split,) = corpus.folds(manifest, "split")
    assert (len(split.train), len(split.dev), len(split.test)) == (56, 18, 17)
    folds = corpus.folds(manifest)
    assert sorted(len(fold.test) for fold in folds) == [18, 18, 18, 18, 19]
    assert check_folds([split, *folds], manifest) == []
    genders = [Counter(u.gender for u in manifest.select(fold.test)) for fold in folds]
    assert all(8 <= count["female"] <= 9 for count in genders)
