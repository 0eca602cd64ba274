"""A file's recorded hash is trusted while its size and its time of change are the recorded ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from undertone.corpora import prepare as prepare_module
from undertone.corpora.own.table import Table
from undertone.corpora.prepare import check_unchanged, prepare

RATE = 16_000


def write(path: Path, seed: int) -> None:
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, RATE).astype(np.float32), RATE)


@pytest.fixture
def corpus(tmp_path: Path) -> Table:
    names = ["a.wav", "b.wav", "c.wav"]
    for seed, name in enumerate(names):
        write(tmp_path / name, seed)
    (tmp_path / "bad.wav").write_text("no sound")
    (tmp_path / "t.csv").write_text("file,emotion\n" + "".join(f"{name},sad\n" for name in [*names, "bad.wav"]))
    return Table(tmp_path / "t.csv")


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Names of the files that were read."""
    names: list[str] = []
    original = prepare_module.read_samples

    def read_samples(path, *span):
        names.append(Path(path).name)
        return original(path, *span)

    monkeypatch.setattr(prepare_module, "read_samples", read_samples)
    return names


def test_a_second_run_reads_what_changed_alone(tmp_path, corpus, read) -> None:
    notes = tmp_path / "notes"
    first = prepare(corpus, None, trusted=notes)
    assert sorted(read) == ["a.wav", "b.wav", "bad.wav", "c.wav"]
    read.clear()
    second = prepare(corpus, None, trusted=notes)
    assert read == ["bad.wav"] and second.broken == first.broken and second.formats == first.formats
    assert list(second.manifest) == list(first.manifest) and second.warnings == first.warnings

    read.clear()
    write(tmp_path / "b.wav", 7)  # as many bytes as before
    os.utime(tmp_path / "c.wav")
    third = prepare(corpus, None, trusted=notes)
    assert sorted(read) == ["b.wav", "bad.wav", "c.wav"]
    same = [one.audio_hash == other.audio_hash for one, other in zip(first.manifest, third.manifest, strict=True)]
    assert same == [True, False, True]
    read.clear()
    prepare(corpus, None)
    assert len(read) == 4, "without the folder every file is read"


def test_another_span_of_a_file_is_read(tmp_path, read) -> None:
    write(tmp_path / "a.wav", 0)
    for number, (start, end) in enumerate(((0.0, 0.5), (0.5, 1.0))):
        (tmp_path / "t.csv").write_text(f"file,emotion,start,end\na.wav,sad,{start},{end}\n")
        prepare(Table(tmp_path / "t.csv"), None, trusted=tmp_path / "notes")
        assert len(read) == number + 1


def test_a_manifest_whose_files_sound_otherwise_is_refused(tmp_path, corpus, read) -> None:
    manifest = prepare(corpus, None).manifest
    read.clear()
    check_unchanged(manifest)
    assert read == []
    os.utime(tmp_path / "a.wav")  # touched, not changed
    (tmp_path / "c.wav").unlink()  # its states may be stored
    check_unchanged(manifest)
    assert read == ["a.wav"]
    write(tmp_path / "b.wav", 7)
    with pytest.raises(ValueError, match="1 of 3 files hold other audio .*b.wav. Restore them, or cross-val"):
        check_unchanged(manifest)
