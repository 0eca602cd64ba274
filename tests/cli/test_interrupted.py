"""A run that is killed goes on as if nothing had been; one that is interrupted says how to go on."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from undertone.tests.cli.commands import finish, start, undertone
from undertone.tests.cli.runs import results
from undertone.upstream.hf.random_weights import save_random
from undertone.upstream.store import store as store_module

WORDS = ("tasks=arousal,emotion", "head.hidden_size=8", "batch_size=8", "max_steps=40", "eval_every=5", "patience=100")
WORDS += ("device=cpu",)
Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin(small_corpus: Path, store: Path) -> Begin:
    return lambda out: start("crossval", small_corpus, "--out", out, f"store={store}", *WORDS)


@pytest.fixture(scope="module")
def whole(small_corpus: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as it is when nothing disturbs it."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert undertone("crossval", small_corpus, "--out", out, f"store={store}", *WORDS).status == 0
    return out


def wait_for(pattern: str, folder: Path, process: subprocess.Popen[str]) -> None:
    """Until a file of this pattern is there; the process must still be at work."""
    end = time.monotonic() + 90
    while not any(folder.glob(pattern)):
        assert process.poll() is None, f"ended before {pattern} was there: {process.communicate()}"
        assert time.monotonic() < end, f"no {pattern} after 90 s"
        time.sleep(0.002)


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL  # it was at work until then


FOLD, REFIT = "folds/F1/checkpoints/step-*5", "refit/checkpoints/step-*5"


@pytest.mark.parametrize("moments", [[REFIT], pytest.param([FOLD, REFIT], marks=pytest.mark.slow)], ids=len)
def test_a_run_that_was_killed_ends_with_the_same_bytes(
    moments: list[str], begin: Begin, whole: Path, small_corpus: Path, store: Path, tmp_path: Path
) -> None:
    """Killed in the middle of the training of RUN/model, and before that in the middle of the first fold."""
    killed = tmp_path / "killed"
    assert results(whole)["cost"]["refit_steps"] >= 20  # else the last kill could come too late

    for moment in moments:
        process = begin(killed)
        wait_for(moment, killed, process)
        kill(process)
        assert len(list(killed.glob("folds/*/fold.json"))) == (4 if moment == REFIT else 0)
        assert not (killed / "results.json").exists()

    outcome = undertone("crossval", small_corpus, "--out", killed, f"store={store}", *WORDS)
    assert outcome.status == 0 and not re.findall(r"^fold", outcome.err, re.MULTILINE)
    for name in ("model/model.safetensors", *(f"folds/{fold}/model/model.safetensors" for fold in ("F1", "M2"))):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    for key in ("mean", "pooled", "ci95", "confusion"):
        assert results(killed)[key] == results(whole)[key], key
    assert not list(killed.rglob("*.tmp")) and not (killed / "refit").exists()


@pytest.mark.slow
def test_a_run_of_two_upstreams_that_is_killed_ends_with_the_same_bytes(
    small_corpus: Path, store: Path, tmp_path: Path
) -> None:
    """One with adapters beside a frozen one, killed in a fold; in one process, see `test_several_upstreams`."""
    upstream = save_random("tiny-wav2vec2", tmp_path / "w2v2")
    words: tuple[object, ...] = ("--upstream", f"ssl={upstream}", "--upstream", "mfcc", "streams.ssl.mode=lora")
    words += (
        "fusion=gate",
        "protocol=groups",
        "num_folds=2",
        "max_steps=12",
        "eval_every=3",
        *WORDS[1:3],
        "device=cpu",
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert undertone("crossval", small_corpus, "--out", whole, f"store={store}", *words).status == 0
    process = start("crossval", small_corpus, "--out", killed, f"store={store}", *words)
    wait_for("folds/*/checkpoints/step-*6", killed, process)
    kill(process)
    assert not list(killed.glob("folds/*/fold.json"))
    assert undertone("crossval", small_corpus, "--out", killed, f"store={store}", *words).status == 0
    models = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert len(models) > 5 and any("adapter" in str(path) for path in models)
    for name in models:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=["Ctrl-C", "SIGTERM"]
)
def test_asked_to_stop_it_saves_and_says_how_to_go_on(
    number: signal.Signals, begin: Begin, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a run"
    process = begin(out)
    wait_for("folds/F1/checkpoints/step-*", out, process)
    asked = time.monotonic()
    os.kill(process.pid, number)
    outcome = finish(process)
    assert time.monotonic() - asked < 20  # 2 s where nothing else runs
    assert outcome.status == 130, outcome
    last = outcome.err.splitlines()[-1]
    assert last.startswith("undertone: Interrupted. Finished work is kept; resume with: undertone crossval")
    assert "Traceback" not in outcome.err and not (out / "results.json").exists()

    command = shlex.split(last.partition("with: undertone ")[2])
    assert str(out) in command and undertone(*command).status == 0
    for name in ("model/model.safetensors", "folds/F1/model/model.safetensors"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    history = "folds/F1/history.json"
    assert (out / history).read_text() == (whole / history).read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_extraction_that_is_asked_to_stop_keeps_its_shards(
    number: signal.Signals, small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, before = store_module.write_shard, {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def written_and_stopped(folder: Path, entries: Any) -> Path:
        shard = write(folder, entries)
        if len(list(folder.glob("*.safetensors"))) == 2:
            os.kill(os.getpid(), number)
        return shard

    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background is started without it
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "SHARD_BYTES", 2**17)
        patch.setattr(store_module, "write_shard", written_and_stopped)
        outcome = undertone("extract", small_corpus, "--store", tmp_path)
    for each, handler in before.items():
        signal.signal(each, handler)
    assert outcome.status == 130, outcome
    command = shlex.split(outcome.err.splitlines()[-1].partition("with: undertone ")[2])
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = undertone(*command)
    assert again.status == 0 and len(kept) >= 2, again.err  # a third may have been on its way to the writing thread
    assert 0 < int(again.out.split("extracted ")[1].split()[0]) < 64
    assert kept.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}.items()
