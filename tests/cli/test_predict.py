"""`undertone predict` as scripts use it: what goes in, what comes out, and the exit status."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from undertone.corpora.corpus import AUDIO_SUFFIXES
from undertone.tests.cli.commands import COMMAND, Outcome, undertone
from undertone.tests.cli.test_bad_input import BROKEN, UNUSUAL, mixed, rows_of

__all__ = ["mixed"]  # a fixture


@pytest.fixture(scope="module")
def sounds(small_corpus: Path) -> list[Path]:
    return [Path(row["file"]) for row in rows_of(small_corpus)[:3]]


@pytest.fixture(scope="module")
def known(finished: Path, sounds: list[Path]) -> list[dict]:
    """The predictions of the three sounds."""
    outcome = undertone("predict", finished, *sounds, "--json")
    assert outcome.status == 0 and outcome.err == "", outcome.err
    return json.loads(outcome.out)


@pytest.fixture(scope="module")
def calls(sounds: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three sounds in folders 0, 1 and 2, and a text."""
    folder = tmp_path_factory.mktemp("of calls") / "calls"
    for number, sound in enumerate(sounds):
        (folder / str(number)).mkdir(parents=True)
        shutil.copy(sound, folder / str(number) / "call.wav")
    (folder / "notes.txt").write_text("no sound")
    return folder


def labels(rows: list[dict]) -> list[str]:
    return [row["emotion"] if isinstance(row["emotion"], str) else row["emotion"]["label"] for row in rows]


def test_every_format_says_the_same(finished: Path, sounds: list[Path], known: list[dict], tmp_path: Path) -> None:
    for row in known:
        scores = row["emotion"]["scores"]
        assert row["emotion"]["label"] == max(scores, key=scores.get)  # type: ignore[arg-type]
        assert list(scores) == ["angry", "happy", "neutral", "sad"]
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5) and "attention" not in row
    lines = undertone("predict", finished, *sounds).out.splitlines()
    assert [line.split()[-1] for line in lines] == ["file", *map(str, sounds)]
    assert [line.split()[1] for line in lines[1:]] == labels(known)
    for name in ("rows.csv", "rows.json", "rows.jsonl", "rows.parquet"):
        outcome = undertone("predict", finished, *sounds, "--out", tmp_path / name)
        assert outcome.status == 0 and outcome.out == ""
    assert json.loads((tmp_path / "rows.json").read_text()) == known
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == known
    table = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert (tmp_path / "rows.csv").read_text() == undertone("predict", finished, *sounds, "--csv").out
    assert labels(table) == labels(pq.read_table(tmp_path / "rows.parquet").to_pylist()) == labels(known)
    for row, line in zip(known, table, strict=True):
        assert float(line["emotion_sad"]) == pytest.approx(row["emotion"]["scores"]["sad"], abs=1e-6)


def test_folders_patterns_and_names_on_standard_input(
    finished: Path, calls: Path, known: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(calls.parent)
    folder = undertone("predict", finished, "calls", "--json")
    assert folder.status == 0 and "calls: 1 file with another ending is left out: 1 .txt" in folder.err
    rows = json.loads(folder.out)
    assert [row["file"] for row in rows] == [f"calls/{number}/call.wav" for number in range(3)]
    assert labels(rows) == labels(known)
    assert undertone("predict", finished, "calls/*/*.wav", "--json").out == folder.out
    assert undertone("predict", finished, "calls/**/call.wav", "--json").out == folder.out
    assert undertone("predict", finished, "calls/**", "--json").out == folder.out, "each once, folders match too"
    names = "".join(f"{row['file']}\n" for row in rows)
    assert piped(names.encode(), finished, "-", "--json", monkeypatch=monkeypatch).out == folder.out


def piped(content: bytes, *words: object, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    return undertone("predict", *words)


def test_standard_input_is_a_file(
    finished: Path, sounds: list[Path], known: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = piped(sounds[0].read_bytes(), finished, "-", "--json", monkeypatch=monkeypatch)
    assert json.loads(outcome.out) == [known[0] | {"file": "-"}]
    assert piped(b"", finished, "-", monkeypatch=monkeypatch).fails_with("Standard input is empty")
    assert piped(b"x", finished, "-", sounds[0], monkeypatch=monkeypatch).fails_with("- is standard input, alone")


def test_a_table_comes_back_with_predictions_added(
    finished: Path, calls: Path, known: list[dict], tmp_path: Path
) -> None:
    table = calls.parent / "table.csv"
    table.write_text(
        "turn,file,emotion,start\n1,calls/0/call.wav,sad,\n2,calls/1/call.wav,,\n3,calls/2/call.wav,x,0.2\n"
    )
    outcome = undertone("predict", finished, table, "--csv")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert outcome.status == 0 and [row["turn"] for row in rows] == ["1", "2", "3"]
    assert [row["emotion"] for row in rows] == ["sad", "", "x"] and rows[0]["file"] == "calls/0/call.wav"
    assert [row["predicted_emotion"] for row in rows[:2]] == labels(known)[:2]
    assert float(rows[2]["duration"]) == pytest.approx(known[2]["duration"] - 0.2, abs=1e-3)
    table.write_text("name\na.wav\n")
    assert undertone("predict", finished, table).fails_with("has no column 'file'. Its columns: name")
    table.write_text("file,start\na.wav,soon\n")
    assert undertone("predict", finished, table).fails_with("row 2: start is 'soon'; it must be seconds")


def test_a_prepared_manifest(finished: Path, small_corpus: Path, tmp_path: Path) -> None:
    assert undertone("prepare", small_corpus, "--out", tmp_path / "manifest").status == 0
    rows = json.loads(undertone("predict", finished, tmp_path / "manifest", "--json").out)
    assert len(rows) == 64 and {row["emotion"] for row in rows} == {"angry", "happy", "neutral", "sad"}
    assert all(row["predicted_emotion"]["label"] in row["predicted_emotion"]["scores"] for row in rows)


def test_what_fails_is_named_and_the_rest_is_done(mixed: Path, finished: Path) -> None:
    files = [mixed.parent / name for name in (*BROKEN, *UNUSUAL)]
    outcome = undertone("predict", finished, *files, "--json")
    rows = {Path(row["file"]).name: row for row in json.loads(outcome.out)}
    assert outcome.status == 1 and list(rows) == [*BROKEN, *UNUSUAL]
    *reasons, last = outcome.err.splitlines()
    bad = [name for name in BROKEN if name != "silence.wav"]  # a mistake in a corpus; to predict, it is sound
    assert last == f"undertone: {len(bad)} of {len(files)} recordings could not be predicted."
    for name, line in zip(bad, reasons, strict=True):
        assert BROKEN[name][1] in rows[name]["error"] and line == f"{mixed.parent / name}: {rows[name]['error']}"
    for name in UNUSUAL:
        assert sum(rows[name]["emotion"]["scores"].values()) == pytest.approx(1, abs=1e-5)
    outcome = undertone("predict", finished, mixed.parent / "text.wav", "no/*.wav")
    assert (
        outcome.status == 1
        and "text.wav: not readable as audio" in outcome.err
        and "no/*.wav: no such file" in outcome.err
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none/*.wav"], "No file matches 'none/*.wav'."),
        (["none.csv"], "No such table: none.csv"),
        (["a.wav", "--json", "--csv"], "One format at a time: --format, --json and --csv ask for json and csv."),
        (["a.wav", "--json", "--format", "table"], "ask for table and json"),
        (["a.wav", "--out", "rows.txt"], "rows.txt does not end in .csv, .json, .jsonl or .parquet"),
        (["a.wav", "--format", "parquet"], "--out FILE.parquet"),
        (["a.wav", "--out", "a.png"], "a.png would show the windows of a recording. Add --window auto."),
        (["a.wav", "--embeddings"], "--embeddings needs a format that holds it"),
        (["a.wav", "--device", "cuda:99"], "--device=cuda:99, but|device='cuda:99', but torch sees"),
        (["a.wav", "--fold", "nobody"], "No model in"),
    ],
)
def test_wrong_use_has_status_2(words: list[str], said: str, finished: Path, tmp_path: Path) -> None:
    outcome = undertone("predict", finished, *words)
    assert outcome.status == 2 and any(part in outcome.err for part in said.split("|")), outcome.err


def test_an_empty_folder_alone_is_wrong_use_and_beside_others_a_reason(
    finished: Path, sounds: list[Path], tmp_path: Path
) -> None:
    outcome = undertone("predict", finished, tmp_path)
    assert outcome.fails_with("No audio in", f"Expected files that end in {AUDIO_SUFFIXES[0]}")
    outcome = undertone("predict", finished, tmp_path, sounds[0], "--json")
    assert outcome.status == 1 and f"{tmp_path}: this is a folder" in outcome.err and "emotion" in outcome.out


def test_the_options_of_computing(
    finished: Path, sounds: list[Path], known: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    words = ("--batch-seconds", 60, "--threads", 1, "--fold", "F1", "--device", "cpu", "--embeddings", "--attention")
    rows = json.loads(undertone("predict", finished, *sounds, *words, "--json").out)
    assert set_to[0] == 1 and len(rows[0]["embedding"]) > 1
    assert sum(rows[0]["attention"]["weights"]) == pytest.approx(1, abs=1e-5)
    model = finished / "folds" / "F1" / "model"
    alone = json.loads(undertone("predict", model, *sounds, "--json").out)
    for row, fold, whole in zip(rows, alone, known, strict=True):
        assert row["emotion"]["scores"] == pytest.approx(fold["emotion"]["scores"], abs=1e-5)
        assert row["emotion"]["scores"] != pytest.approx(whole["emotion"]["scores"], abs=1e-5)


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(finished: Path, sounds: list[Path]) -> None:
    """As `undertone predict ... | head -1`; and a row is written before the next name is known."""
    process = subprocess.Popen(
        [*COMMAND, "predict", str(finished), "-", "--format", "jsonl"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin and process.stdout and process.stderr
    for _ in range(20):
        process.stdin.write(f"{sounds[0]}\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["file"] == str(sounds[0])  # while standard input is still open
    process.stdout.close()
    process.stdin.close()
    error = process.stderr.read()
    assert process.wait(60) != 0 and error == ""
