"""Run as a process: loads good inputs, bounds its memory at what it then has and a margin, and tries the bad ones.

Reads [[kind, path], ...] and the good ones as JSON from standard input; writes what came of each, and the peak.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scipy.signal  # noqa: F401  # what the good inputs do not load
import torch

from undertone.audio.read import read_audio
from undertone.inference.predict import load_model
from undertone.training.settings import make_config
from undertone.upstream import load_upstream

MARGIN = 1500 * 2**20  # bytes
RATE = 16_000
LOAD: dict[str, Callable[[str], Any]] = {
    "sound": lambda path: read_audio(path, RATE),
    "model": load_model,
    "upstream": load_upstream,
    "settings": lambda path: make_config({"corpus": "emodb"}, [], Path(path)).model_dump_json(),
}


def peak_mb() -> float:
    """The most memory this process has held, in MB (`ru_maxrss` would be the parent's, where that is larger)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM:"))


def attempt(kind: str, path: str) -> dict[str, Any]:
    """What came of one input: `done`, or the error's class and text."""
    began = time.monotonic()
    try:
        LOAD[kind](path)
        outcome = {"error": None, "text": ""}
    except Exception as error:
        outcome = {"error": type(error).__name__, "text": str(error)}
    return outcome | {"seconds": time.monotonic() - began}


def main() -> None:
    """See the module's documentation."""
    torch.set_num_threads(1)
    good, bad = json.load(sys.stdin)
    for kind, path in good:
        LOAD[kind](path)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MARGIN, size + MARGIN))
    before = peak_mb()
    outcomes = [attempt(kind, path) for kind, path in bad]
    json.dump({"outcomes": outcomes, "grown_mb": peak_mb() - before}, sys.stdout)


if __name__ == "__main__":
    main()
