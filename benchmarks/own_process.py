"""A measurement in a process of its own, so that its peak memory is its own; imported by the scripts beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def measured_apart(words: Sequence[str]) -> Any:
    """Run the present script again with these words: the JSON that its last line holds."""
    done = subprocess.run([sys.executable, sys.argv[0], *words], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak_bytes() -> int:
    """Most memory that this process has had; `getrusage` counts that of its parent in."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
