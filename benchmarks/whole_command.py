"""What a whole command takes: with an empty store, and once more with the store that it filled.

python benchmarks/whole_command.py crossval emodb --root EmoDB --system contours \
    --measure docs/results/speed/whole_command-contours-emodb.json

Each is a process of its own, from its start to its end, with results in a new folder. Wall seconds are of a machine
that does nothing else; processor seconds count those of its processes.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from extraction import machine

UNDERTONE = [sys.executable, "-m", "undertone.cli"]


def seconds_of(words: list[str]) -> dict[str, float]:
    """Wall and processor seconds of a command."""
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{shlex.join(words)} failed.")
    return {"wall_s": round(time.monotonic() - began, 3), "cpu_s": round(usage.ru_utime + usage.ru_stime, 3)}


def main() -> None:
    """Measure, print, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=Path, required=True, help="the file of figures")
    arguments, words = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        first, again = (
            seconds_of([*UNDERTONE, *words, "--store", f"{folder}/store", "--out", f"{folder}/{name}"])
            for name in ("one", "two")
        )
    found = {"command": shlex.join(["undertone", *words]), "first": first, "again": again}
    found |= {"machine": machine(os.cpu_count() or 1, "cpu")}
    print(json.dumps(found, indent=2))
    arguments.measure.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
