"""benchmarks/whole_command.py: seconds of the processes that it starts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

BUSY = "import time\nwhile time.process_time() < 0.5: pass"
IDLE = "import time; time.sleep(0.5)"


def test_a_command_is_timed_by_the_clock_and_the_processor_and_a_failure_ends_it(
    load_script: Callable[[str], Any],
) -> None:
    script = load_script("whole_command")
    busy, idle = (script.seconds_of([sys.executable, "-c", code]) for code in (BUSY, IDLE))
    assert 0.5 <= busy["cpu_s"] <= busy["wall_s"] + 0.1 and idle["cpu_s"] < 0.5 <= idle["wall_s"]
    with pytest.raises(SystemExit, match="undertone.cli no-such-command failed"):
        script.seconds_of([*script.UNDERTONE, "no-such-command"])
