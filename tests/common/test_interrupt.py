"""Signals are caught while a training runs, and the handlers of before are back afterwards."""

import os
import signal
import threading
import time

import pytest

from undertone.common import interrupt
from undertone.common.interrupt import ask_to_stop, interruptible


def test_the_first_signal_asks_and_the_second_one_ends():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruptible() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_asking_again_is_no_second_signal():
    assert not ask_to_stop()
    with interruptible() as stop:
        assert ask_to_stop() and ask_to_stop() and stop.asked
    assert not ask_to_stop()


def test_work_that_takes_too_long_is_abandoned(monkeypatch):
    monkeypatch.setattr(interrupt, "GRACE", 0.2)
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)


def test_another_thread_catches_nothing():
    asked = []

    def work():
        with interruptible() as stop:
            asked.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]
