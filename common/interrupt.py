"""Ctrl-C and SIGTERM: a training stops after the current update and leaves a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 3.0  # seconds for the current update; a longer one is abandoned, and the last checkpoint counts


class Interrupt:
    """Whether the user asked to stop."""

    asked = False
    """Set by the first signal; the current work should end soon, save and raise KeyboardInterrupt."""

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked or number == signal.SIGALRM:
            raise KeyboardInterrupt
        self.asked = True
        signal.setitimer(signal.ITIMER_REAL, GRACE)


_current: Interrupt | None = None


def ask_to_stop() -> bool:
    """As a first signal does, and once: ask what is at work to stop; False where nothing catches signals."""
    if _current is not None and not _current.asked:
        _current._ask(signal.SIGINT, None)
    return _current is not None


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Catch signals inside the block: the first asks, a second or `GRACE` seconds raise KeyboardInterrupt.

    Outside the main thread, where Python allows no signal handlers, nothing is caught.
    """
    global _current
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before: dict[signal.Signals, Any] = {
        number: signal.signal(number, interrupt._ask) for number in (*SIGNALS, signal.SIGALRM)
    }
    _current = interrupt
    try:
        yield interrupt
    finally:
        _current = None
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_on_sigterm() -> None:
    """Let SIGTERM, which a scheduler sends before it kills, act as Ctrl-C."""

    def raise_interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, raise_interrupt)
