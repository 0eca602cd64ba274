"""The short form of `kills.py`: some kills of each job, and every one ends as if nothing had been."""

from __future__ import annotations

import subprocess
import sys

import pytest

from undertone.tests.faults import kills

MOMENTS = 2


@pytest.mark.slow
def test_killed_and_resumed() -> None:
    done = subprocess.run(
        [sys.executable, kills.__file__, "--moments", str(MOMENTS)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == list(kills.JOBS)
    assert all(f"killed at {MOMENTS} moments" in line and line.endswith("; 0 differences") for line in lines)
