"""Audio that is in several utterances: by spans of one file, and by content whatever the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from undertone.corpora import load_corpus
from undertone.corpora.folds import check_folds, make_folds, mark_leaks
from undertone.corpora.manifest import Manifest
from undertone.corpora.overlap import landmarks, overlaps
from undertone.corpora.prepare import Prepared, prepare

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 80_000)


def table(tmp_path: Path, rows: list[tuple[str, str, str, float | str, float | str]]) -> Prepared:
    lines = ["file,speaker,emotion,start,end", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    return prepare(load_corpus(str(tmp_path / "t.csv")), None)


def test_spans_that_touch_do_not_overlap() -> None:
    spans = [(0.0, 1.0), (1.0, 2.0), (1.5, 1.6), (0.0, 1.0)]
    assert overlaps(["a", "a", "a", "b"], spans, [""] * 4, [[]] * 4) == [0, 1, 1, 3]
    assert overlaps(["a"] * 4, [(0.0, 9.0), (1.0, 2.0), (3.0, 4.0), (9.0, 9.5)], [""] * 4, [[]] * 4) == [0, 0, 0, 3]
    assert overlaps(["a", "b"], [(0, 1), (0, 1)], ["x", "x"], [[]] * 2) == [0, 0]


def test_a_part_has_landmarks_of_the_whole_and_silence_has_none() -> None:
    samples = NOISE.astype(np.float32)
    whole, part = landmarks(samples), landmarks(samples[12_345:40_000])
    assert 20 < len(whole) < 60 and part and set(part) <= set(whole)
    assert not set(whole) & set(landmarks(np.random.default_rng(1).uniform(-0.5, 0.5, 80_000).astype(np.float32)))
    tone = np.round(1000 * np.sin(2 * np.pi * np.arange(80_000) / 40)) / 32768
    assert (
        landmarks(np.zeros(80_000, np.float32)) == landmarks(tone.astype(np.float32)) == landmarks(samples[:100]) == []
    )


def test_overlaps_are_leaks(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, 16000)
    soundfile.write(tmp_path / "cut.flac", soundfile.read(tmp_path / "a.wav")[0][50_000:], 16000)  # a copy of a part
    for number in (1, 2):
        soundfile.write(tmp_path / f"{number}.wav", np.random.default_rng(number).uniform(-0.5, 0.5, 16000), 16000)
    rows = [("a.wav", "A", "sad", 0, 1), ("a.wav", "B", "sad", 0.9, 2), ("a.wav", "A", "sad", 3, 5)]
    rows += [("cut.flac", "C", "sad", "", ""), ("1.wav", "A", "angry", "", ""), ("2.wav", "D", "angry", "", "")]
    found = table(tmp_path, rows)
    first, third = "a.wav#0-1", "a.wav#3-5"
    assert found.manifest.column("overlap") == [first, first, third, third, "", ""]
    assert any("A) and a.wav#0.9-2 (speaker B) share audio under two speakers" in line for line in found.warnings)
    folds = make_folds(found.manifest, "speaker")
    warnings = check_folds(folds, found.manifest)
    assert "Fold 'B': a.wav#0.9-2 (test) overlaps a.wav#0-1 (train or dev) in audio." in warnings
    assert [fold.speaker_independent for fold in mark_leaks(folds, found.manifest)] == [False, False, False, True]


def test_a_manifest_of_before_is_read(tmp_path: Path) -> None:
    import pyarrow

    made = Manifest.from_rows("toy", [{"id": "a", "path": "x.wav", "overlap": "a"}, {"id": "b", "path": "y.wav"}])
    old = made.dataset.data.table.drop_columns(["overlap", "video", "boxes"])
    with (
        pyarrow.OSFile(str(tmp_path / "manifest.arrow"), "wb") as sink,
        pyarrow.ipc.new_stream(sink, old.schema) as out,
    ):
        out.write_table(old)
    loaded = Manifest.load(tmp_path)
    assert loaded.column("overlap") == ["", ""] and loaded.hash == made.hash and loaded[1].id == "b"
