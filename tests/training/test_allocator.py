"""What an update frees serves the next one."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from undertone.training.trainer import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(40):
    torch.ones(2**23)  # 32 MB, 8,192 pages; some times, until what lies between has found its place
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
def test_memory_that_is_freed_is_taken_again_without_asking_the_system() -> None:
    faults = {}
    for name in ("kept", "plain"):
        done = subprocess.run([sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, check=True)
        faults[name] = int(done.stdout)
    assert faults["kept"] < 1000 < faults["plain"], faults
