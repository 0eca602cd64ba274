"""EmoDB on a made-up tree of its real file names, and, where it is at hand, on the real one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from undertone.audio.read import audio_info, read_samples
from undertone.corpora import load_corpus
from undertone.corpora.emodb import FEMALE, MALE
from undertone.corpora.folds import check_folds
from undertone.corpora.manifest import Manifest
from undertone.corpora.prepare import prepare

DATA = Path(__file__).parents[3] / "shared" / "data"
NAMES = ["03a01Wa", "03a02Lc", "08b10Ea", "08a04Ab", "16b03Fa", "16a07Td", "11a05Nb"]


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, 8000), 16000)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        write(tmp_path / "wav" / f"{name}.wav", seed)
    (tmp_path / "lablaut").mkdir()
    (tmp_path / "lablaut" / "03a01Wa.lablaut").write_text("no sound")
    (tmp_path / "wav" / "._03a01Wa.wav").write_text("left by a Mac")
    lines = ["Nr.\tSatz\terkannt\tnatuerlich", "1  \xa0\t03a01Wa.wav\t97,50\xa0 \t35,00 \xa0"]
    (tmp_path / "erkennung.txt").write_text("\n".join(lines), "latin-1")
    return tmp_path


@pytest.mark.parametrize("inside", ["", "wav"])
def test_labels_come_from_the_names(tree: Path, inside: str) -> None:
    prepared = prepare(load_corpus("emodb"), tree / inside)
    manifest = prepared.manifest
    assert manifest.ids == tuple(sorted(NAMES)) and not prepared.broken
    facts = {u.id: (u.speaker, u.gender, u.emotion, u.text) for u in manifest}
    assert facts == {
        "03a01Wa": ("03", "male", "angry", "a01"),
        "03a02Lc": ("03", "male", "bored", "a02"),
        "08b10Ea": ("08", "female", "disgusted", "b10"),
        "08a04Ab": ("08", "female", "fearful", "a04"),
        "16b03Fa": ("16", "female", "happy", "b03"),
        "16a07Td": ("16", "female", "sad", "a07"),
        "11a05Nb": ("11", "male", "neutral", "a05"),
    }
    assert manifest[0].extra == {"recognised": 0.975, "naturalness": 0.35} and manifest[1].extra == {}
    assert "angry 1 (not 127)" in prepared.warnings[0]
    assert [fold.name for fold in load_corpus("emodb").folds(manifest)] == ["03", "08", "11", "16"]


def test_flac_copies_are_the_same_corpus(tree: Path) -> None:
    wav = prepare(load_corpus("emodb"), tree).manifest
    for name in NAMES:
        path = tree / "wav" / f"{name}.wav"
        soundfile.write(path.with_suffix(".flac"), read_samples(path)[0], 16000)
        path.unlink()
    assert prepare(load_corpus("emodb"), tree).manifest.hash == wav.hash


def test_two_copies_are_refused(tree: Path) -> None:
    write(tree / "copy" / "08b10Ea.flac", 0)
    with pytest.raises(ValueError, match=r"08b10Ea is there twice: .*08b10Ea.*one copy"):
        prepare(load_corpus("emodb"), tree)


def test_a_missing_or_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"emodb: no such folder: .*nowhere.*03a01Wa\.wav"):
        prepare(load_corpus("emodb"), tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"emodb: no file such as 03a01Wa\.wav under .*get it from http"):
        prepare(load_corpus("emodb"), tmp_path)
    with pytest.raises(ValueError, match="emodb needs --root"):
        prepare(load_corpus("emodb"), None)


def test_a_stranger_is_refused(tree: Path) -> None:
    write(tree / "wav" / "04a01Wa.wav", 0)
    with pytest.raises(ValueError, match=r"04a01Wa.* is by speaker 04; EmoDB has 03, 08, "):
        prepare(load_corpus("emodb"), tree)


def test_a_bad_line_of_the_listeners_table_is_named(tree: Path) -> None:
    (tree / "erkennung.txt").write_text("Nr.\tSatz\terkannt\tnatuerlich\n1\t03a01Wa.wav\tmany\t35,00\n", "latin-1")
    with pytest.raises(ValueError, match=r"erkennung\.txt, line 2: expected"):
        prepare(load_corpus("emodb"), tree)


def test_the_division_of_audb_has_a_dev_speaker_of_its_train() -> None:
    rows = [{"id": name, "path": "x", "speaker": name} for name in (*FEMALE, *MALE)]
    manifest = Manifest.from_rows("emodb", rows)
    (fold,) = load_corpus("emodb").folds(manifest, "audb")
    assert sorted(fold.test) == ["12", "14", "15", "16"]
    assert sorted(fold.train + fold.dev) == ["03", "08", "09", "10", "11", "13"] and 1 <= len(fold.dev) <= 2


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "emodb").is_dir(), reason="EmoDB is not in ../shared/data")
def test_the_real_emodb() -> None:
    prepared = prepare(load_corpus("emodb"), DATA / "emodb")
    manifest = prepared.manifest
    assert len(manifest) == 535 and not prepared.broken and not prepared.warnings
    genders = dict(zip(manifest.column("speaker"), manifest.column("gender"), strict=True))
    assert len(genders) == 10 and Counter(genders.values()) == {"female": 5, "male": 5}
    assert {speaker for speaker, gender in genders.items() if gender == "male"} == {"03", "10", "11", "12", "15"}
    assert prepared.formats == {(16000, 1): 535}
    assert 1.2 < min(manifest.column("duration")) and max(manifest.column("duration")) < 9.0
    assert all(u.extra["recognised"] >= 0.8 for u in manifest), "535 are those that 80 % of the listeners recognised"
    folds = load_corpus("emodb").folds(manifest)
    assert len(folds) == 10 and check_folds(folds, manifest) == []


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "ravdess").is_dir(), reason="RAVDESS is not in ../shared/data")
def test_real_flac_is_read() -> None:
    path = min((DATA / "ravdess").rglob("*.flac"))
    samples, rate = read_samples(path)
    assert rate == 16000 and len(samples) == audio_info(path).num_samples and 0.001 < np.abs(samples).max() <= 1
