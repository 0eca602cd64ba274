"""benchmarks/first_command.py and whole_command.py: seconds of the processes that they start."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

BUSY = "import time\nwhile time.process_time() < 0.5: pass"
IDLE = "import time; time.sleep(0.5)"


def test_first_commands_are_timed_in_processor_seconds(load_script: Callable[[str], Any]) -> None:
    script = load_script("first_command")
    busy, idle = (script.seconds_of([sys.executable, "-c", code]) for code in (BUSY, IDLE))
    assert 0.5 <= busy < 5 and idle < busy / 2


def test_a_whole_command_is_timed_by_the_clock_and_a_failure_ends_it(load_script: Callable[[str], Any]) -> None:
    script = load_script("whole_command")
    found = script.seconds_of(["--version"])
    assert 0 < found["cpu_s"] < 30 and 0 < found["wall_s"] < 60
    with pytest.raises(SystemExit, match="undertone no-such-command failed"):
        script.seconds_of(["no-such-command"])
