"""Ctrl-C and SIGTERM: a training ends after the update it is in, and leaves a checkpoint of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 3.0  # seconds for the update in hand; one that takes longer is abandoned, and the last checkpoint stands


class Interrupt:
    """Whether the user asked to stop.

    Attributes:
        asked: set by the first signal; the work in hand should end soon, save and raise KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.asked = False

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked or number == signal.SIGALRM:
            raise KeyboardInterrupt
        self.asked = True
        signal.setitimer(signal.ITIMER_REAL, GRACE)


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Catch the signals meanwhile: the first asks, the second one or `GRACE` seconds raise KeyboardInterrupt.

    In another thread than the main one, where Python lets nobody handle signals, nothing is caught.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before: dict[signal.Signals, Any] = {
        number: signal.signal(number, interrupt._ask) for number in (*SIGNALS, signal.SIGALRM)
    }
    try:
        yield interrupt
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_on_sigterm() -> None:
    """Let SIGTERM, which a scheduler sends before it kills, end what runs as Ctrl-C does."""

    def raise_interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, raise_interrupt)
