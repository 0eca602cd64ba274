"""Whatever is wrong with what a user gives ends in a clear sentence, or is set aside and said."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from undertone.tests.cli.commands import TINY, undertone

RATE = 16_000
COLUMNS = ("file", "speaker", "gender", "emotion", "arousal")


def rows_of(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.open()))


def write_table(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def tone(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """(N, channels) of a decaying tone."""
    time = np.arange(round(seconds * rate)) / rate  # (N,)
    return np.repeat((0.3 * np.sin(2 * np.pi * 220 * time) * np.exp(-time))[:, None], channels, axis=1)


def truncated(path: Path) -> None:
    soundfile.write(path, tone(1.0), RATE)
    path.write_bytes(path.read_bytes()[:9000])


def with_nan(path: Path) -> None:
    samples = tone(1.0)
    samples[500:510] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


# What cannot be used: how it is made, and what is said of it.
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated.wav": (truncated, "truncated: the header claims 32000 bytes of audio, 8956 are there."),
    "text.wav": (lambda path: path.write_text("I am no sound\n"), "not readable as audio, or damaged"),
    "empty.wav": (lambda path: path.write_bytes(b""), "the file is empty (0 bytes)."),
    "no_samples.wav": (lambda path: soundfile.write(path, tone(0), RATE), "the file holds no samples."),
    "nan.wav": (with_nan, "10 of 16000 samples are NaN or infinite."),
    "silence.wav": (lambda path: soundfile.write(path, 0 * tone(1), RATE), "digital silence: every sample is 0."),
    "folder.wav": (lambda path: path.mkdir(), "this is a folder, not an audio file."),
    "missing.wav": (lambda path: None, "no such file."),
}
# What is unusual and used all the same.
UNUSUAL: dict[str, Callable[[Path], object]] = {
    "10ms.wav": lambda path: soundfile.write(path, tone(0.01), RATE),
    "8kHz.wav": lambda path: soundfile.write(path, tone(1, rate=8000), 8000),
    "6channels.wav": lambda path: soundfile.write(path, tone(1, channels=6), RATE),
    "48kHz.flac": lambda path: soundfile.write(path, tone(1, rate=48_000), 48_000),
}


@pytest.fixture(scope="module")
def mixed(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small corpus with one utterance more for each file of `BROKEN` and `UNUSUAL`."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, (make, _) in BROKEN.items():
        make(folder / name)
    for name, make_unusual in UNUSUAL.items():
        make_unusual(folder / name)
    labels = {"speaker": "F1", "gender": "female", "emotion": "sad", "arousal": "0.2"}
    more = [labels | {"file": str(folder / name)} for name in (*BROKEN, *UNUSUAL)]
    return write_table(folder / "mixed.csv", rows_of(small_corpus) + more)


def test_prepare_sets_aside_what_cannot_be_used_and_says_why(mixed: Path, tmp_path: Path) -> None:
    outcome = undertone("prepare", mixed, "--out", tmp_path / "manifest")
    assert outcome.status == 0, outcome.err
    for name, (_, reason) in BROKEN.items():
        assert f"note: skipped {mixed.parent / name}: {reason}" in outcome.out
    for name in UNUSUAL:
        assert f"skipped {mixed.parent / name}" not in outcome.out
    assert f"({64 + len(UNUSUAL)} utterances)" in outcome.out
    assert "10ms.wav lasts 10.0 ms" in outcome.out
    assert {"8000 Hz, 1 channel", "16000 Hz, 6 channels", "48000 Hz, 1 channel"} <= {
        line.split("│")[1].strip() for line in outcome.out.splitlines() if "Hz" in line
    }


def test_prepare_strict_stops_and_writes_nothing(mixed: Path, tmp_path: Path) -> None:
    outcome = undertone("prepare", mixed, "--strict", "--out", tmp_path / "manifest")
    assert outcome.status == 2 and f"{len(BROKEN)} of {64 + len(BROKEN) + len(UNUSUAL)} utterances" in outcome.err
    assert "truncated: the header claims" in outcome.err and not (tmp_path / "manifest").exists()


def test_a_run_goes_on_without_them_and_its_results_say_so(mixed: Path, store: Path, tmp_path: Path) -> None:
    outcome = undertone("crossval", mixed, "--out", tmp_path, f"store={store}", *TINY)
    assert outcome.status == 0, outcome.err
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["num_utterances"] == 64 + len(UNUSUAL)
    for name, (_, reason) in BROKEN.items():
        assert any(name in warning and reason in warning for warning in results["warnings"])
        assert name in outcome.err


def test_a_corpus_of_broken_files_only(mixed: Path, tmp_path: Path) -> None:
    rows = [row for row in rows_of(mixed) if Path(row["file"]).name in BROKEN]
    outcome = undertone("train", write_table(tmp_path / "all.csv", rows), "--out", tmp_path / "run", *TINY)
    assert outcome.status == 2 and "8 of 8 utterances cannot be used. Check their paths." in outcome.err


# ---- corpora and tables


@pytest.mark.parametrize("command", ["prepare", "train", "crossval"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["emodb", "--root", "no_such_folder"], "emodb: no such folder: no_such_folder. Give --root the folder with"),
        (["emodb"], "emodb needs --root, the folder with its files."),
        (["emodb", "--root", "."], "emodb: no file such as 03a01Wa.wav under ."),
        (["emobd", "--root", "."], "Unknown corpus 'emobd'. Did you mean 'emodb'"),
        (["none.csv"], "No such table: none.csv."),
        (["./nowhere"], "./nowhere: no such file or folder. Correct the path, or give the name of a corpus"),
    ],
)
def test_a_corpus_that_is_not_there(
    command: str, words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert undertone(command, *words).fails_with(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no rows. Each row gives a file and its labels."),
        ("file,speaker,emotion\n", "has no rows. Each row gives a file and its labels."),
        ("name,emotion\na.wav,sad\n", "has no column 'file'"),
        ("file,speaker\na.wav,F1\n", "has no target: emotion, gender"),
        ("file,emotoin\na.wav,sad\n", "the column 'emotoin' looks like 'emotion'"),
        ("file,arousal\na.wav,4\n", "row 2: arousal is 4; it must be from 0 to 1."),
    ],
)
@pytest.mark.parametrize("command", ["prepare", "crossval"])
def test_a_table_that_says_nothing(command: str, content: str, message: str, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(content)
    assert undertone(command, table, "--out", tmp_path / "out").fails_with(message)
    assert not (tmp_path / "out" / "manifest").exists()


def test_one_class_only(small_corpus: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "sad.csv", [row for row in rows_of(small_corpus) if row["emotion"] == "sad"])
    outcome = undertone("crossval", table, "--out", tmp_path / "run", *TINY)
    assert outcome.fails_with("Task 'emotion' has one class only, 'sad', in all 16 labelled utterances.")


def test_one_speaker_only(small_corpus: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "f1.csv", [row for row in rows_of(small_corpus) if row["speaker"] == "F1"])
    outcome = undertone("crossval", table, "--out", tmp_path / "run", *TINY)
    assert outcome.fails_with("There is only one speaker (1 speaker: f1/F1)", "protocol=random"), outcome.err


def test_no_speakers_is_speaker_dependent_in_every_table(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "nobody.csv", [row | {"speaker": ""} for row in rows_of(small_corpus)])
    outcome = undertone("crossval", table, "--out", tmp_path / "run", f"store={store}", *TINY, "num_folds=2")
    assert outcome.status == 0 and "SPEAKER-DEPENDENT" in outcome.out
    assert undertone("report", tmp_path / "run").status == 0
    assert "SPEAKER-DEPENDENT" in (tmp_path / "run" / "report.html").read_text()


# ---- runs and models


@pytest.mark.parametrize("command", ["train", "crossval"])
@pytest.mark.parametrize("inside", ["", "run"])
def test_a_file_in_the_way_of_out(command: str, inside: str, small_corpus: Path, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "taken"
    file.write_text("mine")
    outcome = undertone(command, small_corpus, "--out", file / inside, f"store={store}", *TINY)
    assert outcome.fails_with(str(file / inside), "--out"), outcome.err
    assert file.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_leave_to_write(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    outcome = undertone("crossval", small_corpus, "--out", folder / "run", f"store={store}", *TINY)
    assert outcome.fails_with(str(folder), "--out"), outcome.err


def test_another_setting_on_an_existing_out(finished: Path, small_corpus: Path, store: Path) -> None:
    before = (finished / "config.json").read_text()
    outcome = undertone("crossval", small_corpus, "--out", finished, f"store={store}", *TINY, "seed=1")
    assert outcome.fails_with("holds a run with other settings: seed was 0, now 1. Choose another --out.")
    assert (finished / "config.json").read_text() == before


def test_predict_where_there_is_no_model(finished: Path, mixed: Path, tmp_path: Path) -> None:
    sound = mixed.parent / "8kHz.wav"
    assert undertone("predict", tmp_path / "nowhere", sound).fails_with("No model at", "there is no such folder")
    assert undertone("predict", tmp_path, sound).fails_with("No model in", "looked for config.json + model.safetensors")
    assert undertone("predict", finished / "folds", sound).fails_with("No model in")
    assert undertone("predict", sound, sound).fails_with("No model in")
    for given, model in ((sound, finished), (mixed.parent, finished / "model"), (sound, "user/name")):
        outcome = undertone("predict", given, model)
        assert outcome.fails_with("The model comes first", f"undertone predict {model} {given}"), outcome.err


def test_a_damaged_model(finished: Path, mixed: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "model", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert undertone("predict", tmp_path / "model", mixed.parent / "8kHz.wav").fails_with("model.safetensors")
    (tmp_path / "model" / "config.json").write_text("{")
    assert undertone("predict", tmp_path / "model", mixed.parent / "8kHz.wav").fails_with("config.json")


def test_report_and_push_of_an_unfinished_run(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    outcome = undertone("report", tmp_path / "run")
    assert outcome.fails_with("results.json", "undertone crossval", str(tmp_path / "run")), outcome.err
    shutil.rmtree(tmp_path / "run" / "model")
    assert undertone("push", tmp_path / "run", "me/mine").fails_with("The run is not finished", "crossval")
    assert undertone("report", tmp_path / "nowhere").fails_with(str(tmp_path / "nowhere"))


def test_evaluate_on_labels_that_the_model_does_not_know(finished: Path, small_corpus: Path, tmp_path: Path) -> None:
    strange = [row | {"emotion": f"very {row['emotion']}", "gender": ""} for row in rows_of(small_corpus)]
    outcome = undertone("evaluate", finished, write_table(tmp_path / "strange.csv", strange), "--out", tmp_path / "a")
    assert outcome.fails_with("No utterance of 'strange' has a label that the model knows (emotion: angry, happy")
    some = [row | ({"emotion": "smug"} if row["emotion"] == "sad" else {}) for row in rows_of(small_corpus)]
    outcome = undertone("evaluate", finished, write_table(tmp_path / "some.csv", some), "--out", tmp_path / "b")
    assert outcome.status == 0 and "not scored, the model has no such emotion: smug (16)" in outcome.out
    assert undertone("evaluate", finished, small_corpus, "--device", "gpu", "--out", tmp_path / "c").fails_with(
        "Setting 'device'"
    )


def test_an_unknown_fold_names_the_folds(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    outcome = undertone("train", small_corpus, "--fold", "F9", "--out", tmp_path, f"store={store}", *TINY)
    assert outcome.fails_with("No fold 'F9'; the folds are: F1, F2, M1, M2.")
