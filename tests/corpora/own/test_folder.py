"""A folder per class, and a prepared manifest in the place of its corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from undertone.corpora import load_corpus
from undertone.corpora.folds import check_folds
from undertone.corpora.prepare import prepare

FILES = ["angry/07_a.wav", "angry/take 2/08_b.flac", "sad/07_c.wav", "sad/09_d.wav"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(FILES):
        path = tmp_path / "calls" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, 8000), 16000)
    for name in ("stray.wav", "sad/notes.txt", "sad/._07_c.wav", ".trash/x.wav"):
        path = tmp_path / "calls" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("not of the corpus")
    return tmp_path / "calls"


def test_folders_are_emotions_and_speakers_are_unknown(folder: Path) -> None:
    corpus = load_corpus(str(folder))
    manifest = prepare(corpus, None).manifest
    assert corpus.name == "calls" and manifest.ids == tuple(FILES)
    assert manifest.column("emotion") == ["angry", "angry", "sad", "sad"]
    assert manifest.column("speaker") == [None] * 4
    assert not any(fold.speaker_independent for fold in corpus.folds(manifest, num_folds=2))


@pytest.mark.parametrize("expression", [r"(\d+)_", r"(\d)(?P<speaker>\d)_.*", "(?P<speaker>[^_]+)_"])
def test_speakers_from_the_names(folder: Path, expression: str) -> None:
    corpus = load_corpus(str(folder), {"speaker": expression})
    manifest = prepare(corpus, None).manifest
    assert [speaker[-1] for speaker in manifest.column("speaker")] == ["7", "8", "7", "9"]
    folds = corpus.folds(manifest)
    assert len(folds) == 3 and check_folds(folds, manifest) == []


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (r"\d+_", r"has no group; put the speaker's part in parentheses"),
        (r"(\d+", r"is not a regular expression: missing \)"),
        (r"(x\d+)_", r"finds no speaker in '07_a', of .*angry/07_a\.wav\. Every file needs one; omit the option"),
        (r"(x?)", r"finds no speaker in '07_a'"),
    ],
)
def test_expressions_that_do_not_work(folder: Path, expression: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(load_corpus(str(folder), {"speaker": expression}), None)


def test_a_folder_without_classes(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.ones(100) / 2, 16000)
    with pytest.raises(
        ValueError, match=r"No audio in subfolders of .*Expected one subfolder per class, such as .*angry/01\.wav"
    ):
        prepare(load_corpus(str(tmp_path)), None)


def test_a_name_wins_over_a_folder_of_that_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rename(folder.parent / "emodb")
    monkeypatch.chdir(folder.parent)
    assert load_corpus("emodb").licence.startswith("CC") and load_corpus("./emodb").licence == "your own"


def test_a_prepared_manifest_stands_for_its_corpus(folder: Path, tmp_path: Path) -> None:
    prepared = prepare(load_corpus(str(folder), {"speaker": r"(\d+)_"}), None)
    prepared.manifest.save(tmp_path / "saved")
    corpus = load_corpus(str(tmp_path / "saved"))
    again = prepare(corpus, None).manifest
    assert corpus.name == "calls" and again.hash == prepared.manifest.hash and list(again) == list(prepared.manifest)
    (folder / FILES[0]).unlink()
    assert prepare(corpus, None).broken == [(str(folder / FILES[0]), "no such file.")]


def test_a_prepared_manifest_keeps_its_corpus_protocol(tmp_path: Path) -> None:
    for actor in range(1, 13):
        path = tmp_path / f"Actor_{actor:02d}" / f"03-01-01-01-01-01-{actor:02d}.wav"
        path.parent.mkdir()
        soundfile.write(path, np.random.default_rng(actor).uniform(-0.3, 0.3, 800), 16000)
    prepare(load_corpus("ravdess"), tmp_path).manifest.save(tmp_path / "saved")
    corpus = load_corpus(str(tmp_path / "saved"))
    corpus.check_protocol("actors")
    assert corpus.licence == "CC BY-NC-SA 4.0"
    assert [fold.name for fold in corpus.folds(prepare(corpus, None).manifest)] == ["01-04", "05-08", "09-12"]
