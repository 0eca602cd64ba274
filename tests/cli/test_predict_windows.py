"""`undertone predict --window ...`: a row a window, and the picture of one recording."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from undertone.inference.predict import load_model
from undertone.tests.cli.commands import undertone


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    noise = 0.1 * np.random.default_rng(0).standard_normal((4 * 16_000, 2))
    soundfile.write(folder / "a.wav", noise, 16_000)
    soundfile.write(folder / "b.wav", noise[:8000], 16_000)
    (folder / "bad.wav").write_text("no audio")
    (folder / "turns.csv").write_text("start,end,speaker\n0.5,1.5,Ann\n2,3,\n")
    return folder


def test_rows_are_windows_and_a_bad_file_loses_no_other(finished: Path, calls: Path) -> None:
    words = ("predict", finished, calls / "bad.wav", calls / "a.wav", calls / "b.wav", "--window", "2", "--hop", "1")
    outcome = undertone(*words, "--format", "jsonl")
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    assert outcome.status == 1 and "1 of 5 rows could not be predicted" in outcome.err
    assert [(Path(row["file"]).name, row.get("start"), row.get("end")) for row in rows] == [
        ("bad.wav", None, None), ("a.wav", 0, 2), ("a.wav", 1, 3), ("a.wav", 2, 4), ("b.wav", 0, 0.5),
    ]  # fmt: skip
    expected = load_model(finished, device="cpu").predict_long(calls / "a.wav", window=2, hop=1)
    for row, other in zip(rows[1:4], expected, strict=True):
        assert row["emotion"]["scores"] == pytest.approx(other["emotion"]["scores"], abs=1e-5)
    lines = list(csv.DictReader(io.StringIO(undertone(*words, "--csv").out)))
    assert [line["start"] for line in lines] == ["", "0.000000", "1.000000", "2.000000", "0.000000"]
    assert "1.00-3.00" in undertone(*words).out


def test_channels_and_segments(finished: Path, calls: Path) -> None:
    words = ("predict", finished, calls / "a.wav", "--segments", calls / "turns.csv", "--channels", "split", "--json")
    rows = json.loads(undertone(*words).out)
    assert [(row["start"], row["channel"], row["speaker"]) for row in rows] == [
        (0.5, 1, "Ann"), (0.5, 2, "Ann"), (2, 1, None), (2, 2, None),
    ]  # fmt: skip


def test_a_row_of_a_table_is_the_span_that_it_names(finished: Path, calls: Path) -> None:
    (calls / "parts.csv").write_text("file,start,end,turn\na.wav,1,,x\na.wav,3,99,y\nb.wav,,,z\n")
    words = ("predict", finished, calls / "parts.csv", "--window", "2", "--hop", "2", "--json")
    outcome = undertone(*words)
    rows = json.loads(outcome.out)
    assert [(row["turn"], row.get("predicted_start"), row.get("predicted_end")) for row in rows] == [
        ("x", 1, 3), ("x", 3, 4), ("y", None, None), ("z", 0, 0.5),
    ]  # fmt: skip
    assert outcome.status == 1 and "the span 3 to 99 s is empty or outside the file" in rows[2]["error"]
    both = undertone(*words, "--segments", calls / "turns.csv")
    assert both.fails_with("--segments is for whole recordings, and a.wav has start or end in its own table")


def test_windows_are_advised_for_a_recording_longer_than_the_training_clips(finished: Path, calls: Path) -> None:
    longest = load_model(finished, device="cpu").model.config.trained_on["clip_seconds"]["longest"]
    outcome = undertone("predict", finished, calls / "b.wav", calls / "a.wav", "--json")
    assert 0.5 < longest < 4 and outcome.status == 0 and len(json.loads(outcome.out)) == 2
    assert outcome.err.startswith(f"note: 1 of 2 recordings last over {longest:g} s") and "--window auto" in outcome.err
    windows = undertone("predict", finished, calls / "b.wav", calls / "a.wav", "--json", "--window", "auto")
    assert windows.err == "" and len(json.loads(windows.out)) > 2


def test_what_is_no_speech_has_a_reason_and_is_no_failure(finished: Path, calls: Path) -> None:
    outcome = undertone("predict", finished, calls / "a.wav", calls / "b.wav", "--speech-only", "--csv")
    lines = list(csv.DictReader(io.StringIO(outcome.out)))
    assert outcome.status == 0
    assert all(line["no_speech"].startswith("no speech found") and not line.get("emotion") for line in lines)
    shown = undertone("predict", finished, calls / "a.wav", "--speech-only").out
    assert "a.wav: no speech found" in shown


@pytest.mark.parametrize("ending", [".png", ".html", ".rttm"])
def test_a_picture_is_of_one_recording(finished: Path, calls: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"a{ending}"
    words = ("predict", finished, calls / "a.wav", "--segments", calls / "turns.csv", "--any-sound", "--out", out)
    assert undertone(*words).status == 0 and out.stat().st_size > 30
    both = undertone("predict", finished, calls / "a.wav", calls / "b.wav", "--window", "auto", "--out", out)
    assert both.fails_with(f"{ending} holds one recording, got 2")
    bad = undertone("predict", finished, calls / "bad.wav", "--window", "auto", "--out", tmp_path / f"bad{ending}")
    assert bad.status == 1 and "not readable as audio" in bad.err and not (tmp_path / f"bad{ending}").exists()


def test_windows_that_are_none_are_refused(finished: Path, calls: Path) -> None:
    assert undertone("predict", finished, calls / "a.wav", "--window", "x").fails_with("takes seconds or auto, got 'x'")
    assert undertone("predict", finished, calls / "a.wav", "--hop", "9").fails_with("hop=9.0 must be seconds above 0")
