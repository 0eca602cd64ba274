"""Work in forked processes: in order, stopped by the first failure, and gone with its parent, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from undertone.common import processes
from undertone.common.processes import can_fork, fork_all
from undertone.tests.cli.commands import finish, start

WORDS = ("--upstream", "fbank", "tasks=emotion", "device=cpu", "max_steps=100000", "patience=100000", "eval_every=1000")
STACKS = ("--head", "linear", "sweep.learning_rate=1e-3,1e-4", "--seeds", "4")
FOLDS = ("--head", "attention", "head.hidden_size=16")
PATIENCE_S = 60

pytestmark = pytest.mark.skipif(not can_fork(), reason="elsewhere trainings follow each other")
little = psutil.virtual_memory().available < 10 * 2**30


def sleeper(number: int, parts: int):
    """A piece of work of some hundredths of a second, each reported; with a negative number it fails."""

    def work(report) -> tuple[int, int]:
        for part in range(1, parts + 1):
            report(part)
            time.sleep(0.01)
        if number < 0:
            raise FileNotFoundError(f"no number {number}")
        return number, torch.get_num_threads()

    return work


def test_the_work_is_done_in_order_each_on_one_thread_and_followed() -> None:
    followed: list[float] = []
    works = [sleeper(number, 30 * (3 - number)) for number in range(3)]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(fork_all(works, 2, followed.append)) == [(0, 1), (1, 1), (2, 1)]
    finally:
        torch.set_num_threads(threads)
    assert followed == sorted(followed) and 0 < followed[0] < followed[-1] == 180


def test_the_first_failure_ends_the_others() -> None:
    began = time.monotonic()
    with pytest.raises(FileNotFoundError, match="no number -1"):
        list(fork_all([sleeper(1, 6000), sleeper(-1, 10), sleeper(2, 6000)], 2, lambda done: None))
    assert time.monotonic() - began < 30
    assert not psutil.Process().children()


class TwoPartError(Exception):
    """One that cannot be unpickled."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")


def test_an_error_that_cannot_be_pickled_is_told_all_the_same() -> None:
    def work(report) -> None:
        raise TwoPartError("a hole", "the seam")

    with pytest.raises(RuntimeError, match="TwoPartError: a hole at the seam"):
        list(fork_all([work], 1, lambda done: None))


def test_work_that_reports_nothing_is_killed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", -0.5)
    began, works = time.monotonic(), [lambda report: time.sleep(60), lambda report: None]
    outcomes = fork_all(works[::-1], 2, lambda done: None)
    next(outcomes)
    outcomes.close()
    assert time.monotonic() - began < 30 and not psutil.Process().children()


@pytest.fixture(
    params=[
        pytest.param(STACKS, id="stacks"),
        pytest.param(FOLDS, id="folds", marks=pytest.mark.skipif(little, reason="needs 10 GB of free memory")),
    ]
)
def training(request: pytest.FixtureRequest, small_corpus: Path, tmp_path: Path):
    """A cross-validation and the processes that its trainings go on in, all at work."""
    words = "--out", tmp_path / "run", "--store", tmp_path / "store", *WORDS, *request.param
    process = start("crossval", small_corpus, *words, threads=2)
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
    assert outcome.fails_with(
        "One of 2 processes was killed, perhaps by the operating system because memory ran out"
    ), outcome
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
