"""`undertone bench`: what it prints and writes, and what it says to wrong input."""

from __future__ import annotations

import json
import shlex
import signal
import time
from pathlib import Path

import pytest
import typer

from undertone import cli
from undertone.tests.cli.commands import start, undertone
from undertone.tests.package.test_advice import option_names

WORDS = ("batch_size=16", "--device", "cpu")


@pytest.mark.slow
def test_bench_prints_tables_and_a_command_and_writes_json(small_corpus: Path, tmp_path: Path) -> None:
    file = tmp_path / "found" / "bench.json"
    outcome = undertone("bench", small_corpus, *WORDS, "--store", tmp_path / "store", "--json", file)
    assert outcome.status == 0, outcome.err
    for word in ("audio s/s", "float32", "linear", "attention", "(estimate)", "lora is left out", "recommended, about"):
        assert word in outcome.out, word
    found = json.loads(file.read_text())
    assert {"machine", "versions", "corpus", "extraction", "trainings", "recommended", "notes"} <= found.keys()
    program, name, *words = shlex.split(found["recommended"]["command"])
    known = option_names(typer.main.get_command(cli.app).commands[name])
    assert program == "undertone" and {word for word in words if word.startswith("--")} <= known
    assert found["recommended"]["command"] in outcome.out
    run = undertone(name, *words, "--out", tmp_path / "run", "max_epochs=1")
    assert run.status == 0, run.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such.csv"], ["no-such.csv"]),
        (["emodp"], ["emodb"]),
        (["emodb"], ["--root"]),
        (["emodb", "--root", "no-such-folder"], ["no-such-folder"]),
        (["--upstream", "no-such-upstream/x"], ["no-such-upstream/x"]),
        (["--system", "functionals"], ["head=svm is fitted by a solver, without updates"]),
        (["--system", "crnn"], ["head=crnn is not among them"]),
        (["--system", "no-such-system"], ["no-such-system"]),
        (["batchsize=3"], ["batch_size"]),
        (["--json", "."], [". is a folder. Give --json a file."]),
        (["--device", "tpu"], ["device", "'cpu' or 'cuda'"]),
    ],
)
def test_what_is_wrong_is_a_sentence_and_nothing_is_written(
    words: list[str], said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = undertone("bench", *words)
    assert outcome.fails_with(*said), outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_leaves_no_file(small_corpus: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    process = start("bench", small_corpus, *WORDS, "--store", store, "--json", tmp_path / "bench.json")
    end = time.monotonic() + 90
    while not list(store.glob(".bench.*/float32-*")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 130 and "Interrupted." in said
    assert not (tmp_path / "bench.json").exists() and [path.name for path in store.iterdir()] == ["audio"]
