"""The processes of stacks end with their parent, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from undertone.tests.cli.commands import finish, start

WORDS = (
    "--upstream",
    "fbank",
    "--head",
    "linear",
    "tasks=emotion",
    "device=cpu",
    "max_steps=100000",
    "patience=100000",
)
WORDS += ("eval_every=1000", "sweep.learning_rate=1e-3,1e-4", "--seeds", "4")
PATIENCE_S = 60

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere stacks are trained one after another")


@pytest.fixture
def training(small_corpus: Path, tmp_path: Path):
    """A cross-validation and the processes that train its stacks, all at work."""
    process = start(
        "crossval", small_corpus, "--out", tmp_path / "run", "--store", tmp_path / "store", *WORDS, threads=2
    )
    end = time.monotonic() + PATIENCE_S
    while len(children := psutil.Process(process.pid).children()) < 2 or not all(c.cpu_times().user for c in children):
        assert process.poll() is None and time.monotonic() < end, process.poll()
        time.sleep(0.01)
    yield process, children
    for each in (process, *children):
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.communicate()


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"]
)
def test_no_process_stays_behind(
    training: tuple[subprocess.Popen[str], list[psutil.Process]], number: signal.Signals
) -> None:
    process, children = training
    asked = time.monotonic()
    os.kill(process.pid, number)
    outcome = finish(process)
    assert outcome.status == (-signal.SIGKILL if number == signal.SIGKILL else 130), outcome
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive and time.monotonic() - asked < 10
    if number != signal.SIGKILL:
        assert "resume with: undertone crossval" in outcome.err.splitlines()[-1]


@pytest.mark.slow
def test_the_end_of_one_process_ends_the_run_with_a_sentence(
    training: tuple[subprocess.Popen[str], list[psutil.Process]],
) -> None:
    process, children = training
    children[0].kill()
    outcome = finish(process)
    assert outcome.fails_with("The operating system killed a training process, perhaps"), outcome
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
