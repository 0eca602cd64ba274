"""Several pieces of work at once, each in a process that is forked from this one, on one core (Linux)."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_limits

from undertone.common.interrupt import GRACE, ask_to_stop

POLL_SECONDS = 0.2  # between two readings of the processes' progress
PR_SET_PDEATHSIG = 1  # of Linux' sys/prctl.h

T = TypeVar("T")
Report = Callable[[float], None]  # of a piece of work: what it has done so far

_works: Sequence[Callable[[Report], Any]] = ()  # inherited by the forked processes
_done: Any = None  # shared memory: what each has done, then whether to stop


def can_fork() -> bool:
    """Whether work can go on in forked processes: on Linux, where no GPU may be in use."""
    return sys.platform == "linux" and not torch.cuda.is_available()


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it torch splits no operation: of short ones a part waits for the others longer than it computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fork_all(works: Sequence[Callable[[Report], T]], at_once: int, follow: Callable[[float], None]) -> Generator[T]:
    """What each piece of work returns, in their order; `at_once` of them at a time, each in a process of its own.

    Processes, not threads: short operations would spend more time waiting for Python's lock than working, and random
    numbers are drawn from one generator a process. The processes are forked, so they share the memory of this one, and
    they end with it. If one fails, or this generator is closed, the others end with their next report, or are killed
    a little after the time that an `Interrupt` gives them.

    Args:
        works: called with a function that takes what was done so far, and returning what can be pickled.
        at_once: processes.
        follow: called a few times a second with the sum of what was done.

    Raises:
        ValueError: a process ended by itself, as where the operating system kills it.
        RuntimeError: what a piece of work raised, if that cannot be pickled.
    """
    global _works, _done
    context, before = multiprocessing.get_context("fork"), set(multiprocessing.active_children())
    _works, _done = works, context.Array("d", len(works) + 1, lock=False)
    with ProcessPoolExecutor(at_once, context, initializer=_begin, initargs=(os.getpid(),)) as pool:
        futures: list[Future[T]] = []
        try:  # the processes are forked at the first call of submit
            futures = [pool.submit(_work, number) for number in range(len(works))]
            for future in futures:
                while not future.done():
                    wait([future], POLL_SECONDS)
                    follow(sum(_done[:-1]))
                    for failed in (one for one in futures if one.done() and one.exception()):
                        failed.result()
                follow(sum(_done[:-1]))
                yield future.result()
        except BrokenProcessPool as error:
            fewer = f"OMP_NUM_THREADS={at_once // 2} undertone ..." if at_once > 1 else "a smaller batch_size."
            raise ValueError(
                f"One of {at_once} processes was killed, perhaps by the operating system because memory ran out. "
                f"Finished work is kept. Run again with less at once: {fewer}"
            ) from error
        finally:
            _done[-1] = True
            if wait([future for future in futures if not future.cancel()], GRACE + 1).not_done:
                for child in set(multiprocessing.active_children()) - before:
                    child.kill()
            pool.shutdown()
            _works = ()


def _begin(parent: int) -> None:
    """In a new process: use one core, leave Ctrl-C to the parent, and die with it."""
    torch.set_num_threads(1)
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before prctl
        os._exit(1)


def _work(number: int) -> Any:
    """In a new process: one piece of work."""

    def report(done: float) -> None:
        _done[number] = done
        if _done[-1] and not ask_to_stop():
            raise KeyboardInterrupt

    report(0.0)  # what was waiting when the others were asked to end does not begin
    try:
        return _works[number](report)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise
