"""RAVDESS on a made-up tree of its real file names, and, where it is at hand, on the real one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from undertone.corpora import load_corpus
from undertone.corpora.folds import check_folds
from undertone.corpora.manifest import Manifest
from undertone.corpora.prepare import prepare

DATA = Path(__file__).parents[3] / "shared" / "data" / "ravdess"
NAMES = ["03-01-01-01-02-02-01", "03-01-02-02-01-01-02", "03-01-06-01-02-01-12", "03-01-08-02-01-02-24"]


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, 4800), 48000)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for seed, name in enumerate([*NAMES, "03-02-06-01-02-01-12"]):  # the last one is a song
        write(tmp_path / f"Actor_{name[-2:]}" / f"{name}.wav", seed)
    return tmp_path


def test_labels_come_from_the_names(tree: Path) -> None:
    prepared = prepare(load_corpus("ravdess"), tree)
    kids, dogs = "Kids are talking by the door", "Dogs are sitting by the door"
    assert {u.id: (u.speaker, u.gender, u.emotion, u.text, u.extra) for u in prepared.manifest} == {
        NAMES[0]: ("01", "male", "neutral", dogs, {"intensity": "normal"}),
        NAMES[1]: ("02", "female", "calm", kids, {"intensity": "strong"}),
        NAMES[2]: ("12", "female", "fearful", dogs, {"intensity": "normal"}),
        NAMES[3]: ("24", "female", "surprised", kids, {"intensity": "strong"}),
    }
    assert "neutral 1 (not 96)" in prepared.warnings[0] and "01 1 (not 60)" in prepared.warnings[1]


def test_a_copy_inside_the_copy_is_refused_and_one_of_them_is_read(tree: Path) -> None:
    inner = tree / "audio_speech_actors_01-24"
    for seed, name in enumerate(NAMES):
        write(inner / f"Actor_{name[-2:]}" / f"{name}.wav", seed)
    with pytest.raises(ValueError, match=r"03-01-01-01-02-02-01 is there twice: .*Give --root a folder with one copy"):
        prepare(load_corpus("ravdess"), tree)
    assert len(prepare(load_corpus("ravdess"), inner).manifest) == 4


def test_songs_alone_are_not_the_corpus(tmp_path: Path) -> None:
    write(tmp_path / "Actor_12" / "03-02-06-01-02-01-12.wav", 0)
    with pytest.raises(ValueError, match=r"ravdess: no file such as Actor_12/03-01-06-01-02-01-12\.wav"):
        prepare(load_corpus("ravdess"), tmp_path)


def manifest_of(actors: range) -> Manifest:
    rows = [
        {"id": f"{actor}-{take}", "path": "x", "speaker": f"{actor:02d}", "gender": ("female", "male")[actor % 2]}
        for actor in actors
        for take in range(3)
    ]
    return Manifest.from_rows("ravdess", rows)


@pytest.mark.parametrize("seed", [0, 1])
def test_six_folds_of_two_men_and_two_women(seed: int) -> None:
    corpus, manifest = load_corpus("ravdess"), manifest_of(range(1, 25))
    folds = corpus.folds(manifest, seed=seed)
    assert [fold.name for fold in folds] == ["01-04", "05-08", "09-12", "13-16", "17-20", "21-24"]
    assert check_folds(folds, manifest) == []
    for fold in folds:
        for part in (fold.test, fold.dev):
            speakers = {(u.speaker, u.gender) for u in manifest.select(part)}
            assert Counter(gender for _, gender in speakers) == {"female": 2, "male": 2}
        assert {u.speaker for u in manifest.select(fold.test)} == {
            f"{n:02d}" for n in range(int(fold.name[:2]), int(fold.name[3:]) + 1)
        }
    assert folds == corpus.folds(manifest, "actors", seed=7)


def test_other_protocols() -> None:
    corpus, manifest = load_corpus("ravdess"), manifest_of(range(1, 13))
    assert len(corpus.folds(manifest, "speaker")) == 12
    assert [fold.name for fold in corpus.folds(manifest, num_folds=4)] == ["group1", "group2", "group3", "group4"]
    used = [corpus.protocol_used(manifest, *asked) for asked in ((None, None), ("speaker", None), (None, 4))]
    assert used == ["actors", "speaker", "groups"]
    with pytest.raises(ValueError, match="'actors' determines the number of folds; leave num_folds=3 out"):
        corpus.folds(manifest, "actors", 3)
    with pytest.raises(ValueError, match="two or more parts with different speakers, got 01-04"):
        corpus.folds(manifest_of(range(1, 4)))


def test_the_division_of_audb() -> None:
    corpus, manifest = load_corpus("ravdess"), manifest_of(range(1, 25))
    corpus.check_protocol("audb")
    (fold,) = corpus.folds(manifest, "audb")
    speakers = {part: sorted({str(u.speaker) for u in manifest.select(ids)}) for part, ids in fold.parts.items()}
    assert speakers["dev"] == ["16", "17", "19", "20"] and speakers["test"] == ["21", "22", "23", "24"]
    assert speakers["train"] == [*(f"{n:02d}" for n in range(1, 16)), "18"]
    assert fold.name == corpus.protocol_used(manifest, "audb") == "audb" and check_folds([fold], manifest) == []


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="RAVDESS is not in ../shared/data")
def test_the_real_ravdess() -> None:
    prepared = prepare(load_corpus("ravdess"), DATA)
    manifest = prepared.manifest
    assert len(manifest) == 1440 and not prepared.broken
    emotions = Counter(manifest.column("emotion"))
    assert emotions.pop("neutral") == 96 and set(emotions.values()) == {192} and len(emotions) == 7
    assert Counter(Counter(manifest.column("speaker")).values()) == {60: 24}
    assert Counter(manifest.column("gender")) == {"female": 720, "male": 720}
    assert prepared.warnings == ["03-01-03-01-02-01-07 and 03-01-03-01-02-02-07 hold the same audio."]
    assert 1.47 < sum(manifest.column("duration")) / 3600 < 1.49
    folds = load_corpus("ravdess").folds(manifest)
    assert len(folds) == 6 and all(len(fold.test) == 240 for fold in folds) and check_folds(folds, manifest) == []
