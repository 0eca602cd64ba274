"""What the command sets in its process before torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import atexit, gc, os, sys
sys.argv = ["undertone", "--version"]
from undertone.cli import main
atexit.register(lambda: print("frozen at the end:", gc.get_freeze_count() > 10_000))  # the first to register is last
before = gc.get_threshold()
try:
    main()
except SystemExit:
    pass
print(gc.get_threshold()[0], gc.get_threshold()[1:] == before[1:], gc.isenabled())
print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
"""


@pytest.mark.parametrize("given, expected", [(None, "PASSIVE False"), ("ACTIVE", "ACTIVE False")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise_and_garbage_is_sought_rarely(
    given: str | None, expected: str
) -> None:
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env |= {"OMP_WAIT_POLICY": given} if given else {}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.splitlines()[-3:] == ["20000 True True", expected, "frozen at the end: True"]
