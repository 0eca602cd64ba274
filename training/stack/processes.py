"""Stacks on all cores, one process each."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import torch

from undertone.common.console import Advance
from undertone.training.stack.stacked_trainer import StackedTrainer
from undertone.training.trainer import Trained

POLL_SECONDS = 0.2  # between two readings of the processes' progress
PR_SET_PDEATHSIG = 1  # of Linux' sys/prctl.h

Outcome = list[list[Trained]]
Weights = list[list[dict[str, np.ndarray]]]  # of each group's trainings

_trainers: Sequence[StackedTrainer] = ()  # inherited by the forked processes
_done: Any = None  # shared memory: the updates of each, then whether to stop


def fit_all(trainers: Sequence[StackedTrainer], advance: Advance) -> Generator[Outcome]:
    """Train all stacks, on Linux without a GPU as many at once as torch has threads, each on one core.

    Processes, not threads: a stack is many short operations, and threads would spend more time waiting for Python's
    lock than working. The processes are forked, so they share the means, and they end with this process.

    Yields the outcome of each trainer, in order; on a CPU their modules hold the best weights in the end. `advance` is
    called with the updates of all of them.
    """
    total = sum(group.last * len(group.configs) for one in trainers for group in one.groups)
    workers = min(torch.get_num_threads(), len(trainers))
    if workers <= 1 or sys.platform != "linux" or torch.cuda.is_available():
        for number, trainer in enumerate(trainers):
            before = sum(group.last * len(group.configs) for one in trainers[:number] for group in one.groups)
            yield trainer.fit(lambda updates, before=before: advance(before + updates, total, ""))  # type: ignore[misc]
        return
    global _trainers, _done
    context = multiprocessing.get_context("fork")
    _trainers, _done = trainers, context.Array("q", len(trainers) + 1, lock=False)
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(os.getpid(),)) as pool:
        try:  # a process is forked at each of the first calls of submit
            futures = [pool.submit(_fit, number) for number in range(len(trainers))]
            for trainer, future in zip(trainers, futures, strict=True):
                yield _collect(trainer, future, lambda: advance(sum(_done[:-1]), total, ""))
        except BrokenProcessPool as error:
            raise ValueError(
                "The operating system killed a training process, perhaps because memory ran out. Run again."
            ) from error
        finally:
            _done[-1] = True
            pool.shutdown(cancel_futures=True)
            _trainers = ()


def _collect(trainer: StackedTrainer, future: Future[tuple[Outcome, Weights]], report: Any) -> Outcome:
    """Wait for a process and load its weights into the trainer's modules."""
    while not wait([future], POLL_SECONDS, FIRST_COMPLETED).done:
        report()
    report()
    outcome, weights = future.result()
    for modules, found in zip(trainer.modules, weights, strict=True):
        for module, state in zip(modules, found, strict=True):
            module.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return outcome


def _begin(parent: int) -> None:
    """In a new process: use one core, leave Ctrl-C to the parent, and die with it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before prctl
        os._exit(1)


def _fit(number: int) -> tuple[Outcome, Weights]:
    """In a new process: train one stack."""
    trainer = _trainers[number]

    def follow(updates: int) -> None:
        _done[number] = updates
        if _done[-1]:
            raise InterruptedError

    outcome = trainer.fit(follow)
    weights = [[{n: v.numpy() for n, v in one.state_dict().items()} for one in modules] for modules in trainer.modules]
    return outcome, weights
