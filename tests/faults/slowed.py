"""The command with slowed writes, loaded once: `kills.py` forks its jobs from here, as starting Python takes longer.

Imported for what it does: while a file is written it stands half-finished beside its place for a while, as on a slow
disk, and a log says when.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from undertone.common import files

plain = files.atomic_path
log, pause = Path(os.devnull), 0.0  # of the job that was forked


def _note(word: str, target: Path) -> None:
    with log.open("a") as file:
        file.write(f"{word} {target}\n")


@contextmanager
def _slow(target: Path) -> Iterator[Path]:
    """As `atomic_path`; safetensors files stay cut in half for `pause` seconds."""
    with plain(target) as draft:
        yield draft
        written = [path for path in [draft, *draft.rglob("*")] if path.is_file()] if draft.is_dir() else [draft]
        largest = max(written, key=lambda path: path.stat().st_size)
        if largest.suffix == ".safetensors":
            content = largest.read_bytes()
            largest.write_bytes(content[: len(content) // 2])
            _note("in", target)
            time.sleep(pause)
            largest.write_bytes(content)
            _note("out", target)


files.atomic_path = _slow  # before the modules that take it from there
for _name in (
    "cli",
    "commands.runs",
    "commands.store",
    "experiments.crossval",
    "experiments.hidden_states",
    "corpora.synthetic",
):
    importlib.import_module(f"undertone.{_name}")
importlib.import_module("undertone.upstream.store.store").SHARD_BYTES = 2**17  # several shards of a small corpus


def command(words: Sequence[str], written: Path, seconds: float, output: Path) -> None:
    """`undertone WORDS...` in this process, to be forked for it; what it says goes to a file."""
    global log, pause
    log, pause = written, seconds
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    sys.argv = ["undertone", *words]
    from undertone.cli import main

    main()
