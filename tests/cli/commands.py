"""The command as a user gives it: in this process, which is fast, or as a process of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.state import AcceleratorState

from undertone.cli import main

TINY = ("head.hidden_size=8", "max_epochs=2", "batch_size=16", "eval_every=1", "device=cpu")
# Ctrl-C as in a terminal, also where the tests run in the background, which is started with SIGINT ignored.
MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from undertone.cli import main; main()"
COMMAND = (sys.executable, "-c", MAIN)


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit status and what it printed."""

    status: int
    out: str
    err: str

    def fails_with(self, *words: str) -> bool:
        """It ended with status 2 and a sentence of one line, the last one on stderr, which has all of `words`."""
        *before, last = self.err.splitlines()
        sentence = last.startswith("undertone: ") and not any("undertone: " in line for line in before)
        return self.status == 2 and sentence and all(word in last for word in words)


def undertone(*words: object) -> Outcome:
    """`undertone WORDS...` in this process; an exception that the command does not turn into a sentence comes out."""
    AcceleratorState._reset_state(True)  # as in a fresh process, which may choose another device
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["undertone", *map(str, words)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
    return Outcome(status, out.getvalue(), err.getvalue())


def start(*words: object, command: Sequence[str] = COMMAND, threads: int | None = None) -> subprocess.Popen[str]:
    """`undertone WORDS...` as a process of its own, by default with as many threads as this one."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads or torch.get_num_threads()), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [*command, *map(str, words)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> Outcome:
    """Wait for the process."""
    out, err = process.communicate(timeout=120)
    return Outcome(process.returncode, out, err)


def files_of(run: Path) -> dict[Path, int]:
    """{file: time of its last change} of a run, without the locks, which are opened again and again."""
    return {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.suffix != ".lock"}
