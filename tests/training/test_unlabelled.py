"""Unlabelled speech: which of it is kept, and the order of its batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from undertone.corpora.manifest import Manifest, Utterance
from undertone.corpora.own.audio_folder import AudioFolder
from undertone.corpora.synthetic import Synthetic
from undertone.training.unlabelled import UnlabelledStream, joined, unlabelled_corpus, without_labels


def utterances(count: int) -> list[Utterance]:
    return [Utterance(id=str(number), path=f"{number}.wav") for number in range(count)]


def test_every_pass_has_everything_once_in_another_order() -> None:
    items = utterances(10)
    stream = UnlabelledStream(items, 4, seed=0)
    seen = [int(item.id) for step in range(5) for item in stream(step)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10)) and seen[:10] != seen[10:]
    assert [item.id for item in UnlabelledStream(items, 4, seed=1)(0)] != [item.id for item in stream(0)]


def test_an_update_gets_the_same_whatever_came_before_and_however_it_is_divided() -> None:
    items = utterances(10)
    stream = UnlabelledStream(items, 4, seed=0)
    for step in (0, 1):
        stream(step)
    assert UnlabelledStream(items, 4, seed=0)(7) == stream(7)
    parts = [stream(7, part, 3) for part in range(3)]
    assert sorted(item.id for part in parts for item in part) == sorted(item.id for item in stream(7))
    assert len(UnlabelledStream(items[:2], 4, seed=0)(7)) == 2


def test_labels_and_sounds_of_the_corpus_are_dropped() -> None:
    def manifest(*hashes: str) -> Manifest:
        rows = [{"id": name, "path": name, "audio_hash": name, "emotion": "sad", "speaker": "x"} for name in hashes]
        return Manifest.from_rows("own", rows)

    kept = without_labels(manifest("a", "b"), manifest("b", "c"))
    assert [(item.id, item.audio_hash, item.emotion, item.speaker) for item in kept] == [
        ("unlabelled/c", "c", None, None)
    ]
    assert joined(manifest("a", "b"), kept).ids == ("a", "b", "unlabelled/c")
    with pytest.raises(ValueError, match="All of the unlabelled audio is in the corpus already"):
        without_labels(manifest("a", "b"), manifest("b"))


def test_a_folder_of_files_however_deep(tmp_path: Path) -> None:
    for row in list(Synthetic(seed=0, num_speakers=1, per_emotion=1).rows(tmp_path / "deep" / "er"))[:2]:
        assert Path(row["path"]).is_file()
    corpus = unlabelled_corpus(str(tmp_path))
    assert isinstance(corpus, AudioFolder)
    assert (
        all(row["id"].startswith("deep/er/") for row in corpus.rows(tmp_path)) and len(list(corpus.rows(tmp_path))) > 1
    )
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"No audio in .*none. Expected files that end in .wav"):
        list(AudioFolder(tmp_path / "none").rows(tmp_path / "none"))
