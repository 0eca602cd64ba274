"""What reading gave is kept beside a manifest: a run on the folder reads changed files alone; a damaged record none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from undertone.corpora import load_corpus
from undertone.corpora import prepare as prepare_module
from undertone.corpora.measured import MEASURED_FILE, Measured, Segment, load_measured, save_measured
from undertone.corpora.prepare import prepare

FOUND: dict[Segment, Measured] = {
    ("/x/a.wav", None, None): Measured(16000, 1, 0.5, 1.25, "ab", 7, 9, np.array([1, 2**64 - 1], np.uint64)),
    ("/x/a.wav", 0.5, None): Measured(8000, 2, 1.0, 0.25, "cd", 7, 9, np.zeros(0, np.uint64)),
    (os.fsdecode(b"/x/\xff.wav"), 0.0, 2.0): Measured(8000, 2, 1.0, 2.0, "ef", 7, 9, np.array([3], np.uint64)),
}


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    save_measured(tmp_path / "m.arrow", FOUND)
    found = load_measured(tmp_path / "m.arrow")
    assert list(found) == list(FOUND)
    for segment, measured in FOUND.items():
        assert found[segment][:-1] == measured[:-1]
        np.testing.assert_array_equal(found[segment].landmarks, measured.landmarks)


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    assert load_measured(tmp_path / "none.arrow") == {}
    save_measured(tmp_path / "m.arrow", FOUND)
    whole = (tmp_path / "m.arrow").read_bytes()
    for cut in (whole[:100], whole[:-20], b"{}"):
        (tmp_path / "m.arrow").write_bytes(cut)
        assert load_measured(tmp_path / "m.arrow") == {}


def test_a_prepared_folder_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate(("a.wav", "b.wav")):
        soundfile.write(tmp_path / name, np.random.default_rng(seed).uniform(-0.3, 0.3, 8000), 16000)
    (tmp_path / "t.csv").write_text("file,emotion\na.wav,sad\nb.wav,angry\n")
    first = prepare(load_corpus(str(tmp_path / "t.csv")), None)
    first.save(tmp_path / "made")
    assert (tmp_path / "made" / MEASURED_FILE).is_file()
    read: list[str] = []
    original = prepare_module.read_samples
    monkeypatch.setattr(
        prepare_module, "read_samples", lambda path, *span: (read.append(Path(path).name), original(path, *span))[1]
    )
    corpus = load_corpus(str(tmp_path / "made"))
    again = prepare(corpus, None, trusted=tmp_path / "notes")
    assert read == [] and again.manifest.hash == first.manifest.hash and again.formats == first.formats
    os.utime(tmp_path / "b.wav")
    prepare(load_corpus(str(tmp_path / "made")), None, trusted=tmp_path / "others")
    assert read == ["b.wav"]
    prepare(load_corpus(str(tmp_path / "made")), None)
    assert read == ["b.wav", "a.wav", "b.wav"], "without a folder of results every file is read"
