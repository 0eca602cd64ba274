"""A user of the loopback Hub as a process: `huggingface_hub` reads HF_ENDPOINT when it is imported.

It is forked from one that has imported what the Hub's client stands on, and not the client, in a tenth of the time.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PRELOADED = [
    "numpy",
    "scipy.special",
    "pydantic.main",
    "yaml",
    "jinja2",
    "filelock",
    "tqdm.auto",
    "anyio",
    "httpx",
    "httpx2",
]
PRELOADED += ["matplotlib.figure", "matplotlib.backends.backend_agg"]
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(PRELOADED)
SECONDS = 60


def run(code: str, words: tuple[str, ...], env: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code with these words and this environment; what it prints goes through two files in `folder`."""
    files = [folder / "client.out", folder / "client.err"]
    process = FORKED.Process(target=_run, args=(code, words, dict(env), os.getcwd(), files))
    process.start()
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"The client was at work for {SECONDS} s: {[file.read_text() for file in files]}")
    return subprocess.CompletedProcess(code, process.exitcode, *(file.read_text() for file in files))


def _run(code: str, words: tuple[str, ...], env: Mapping[str, str], cwd: str, files: list[Path]) -> None:
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    if "huggingface_hub" in sys.modules:
        raise RuntimeError("The Hub's client was imported before its environment was set.")
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["-c", *words]
    exec(code, {"__name__": "__main__"})
