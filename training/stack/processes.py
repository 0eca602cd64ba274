"""Stacks on all cores, each in a process of its own."""

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

LOOK_SECONDS = 0.2  # from one look at the processes' progress to the next
PR_SET_PDEATHSIG = 1  # of Linux' sys/prctl.h

Outcome = list[list[Trained]]
Weights = list[list[dict[str, np.ndarray]]]  # of each feed's trainings

_trainers: Sequence[StackedTrainer] = ()  # what a forked process finds in its memory
_done: Any = None  # updates of each, and behind them whether to stop: memory that the processes share


def fit_all(trainers: Sequence[StackedTrainer], advance: Advance) -> Generator[Outcome]:
    """Train all stacks, on Linux without a GPU as many at once as torch has threads, each on one core.

    Processes, not threads: a stack is many short operations, between which threads would wait for each other's Python
    longer than they work. They are forked, so that they share the means, and are gone when this process is, however
    it ends.

    Args:
        trainers: on one device; those of the CPU end with the best weights in their modules.
        advance: told the updates of all of them.

    Yields:
        the outcome of each, in their order.

    Raises:
        ValueError: the system ended a process.
    """
    total = sum(feed.last * len(feed.configs) for one in trainers for feed in one.feeds)
    workers = min(torch.get_num_threads(), len(trainers))
    if workers <= 1 or sys.platform != "linux" or torch.cuda.is_available():
        for number, trainer in enumerate(trainers):
            before = sum(feed.last * len(feed.configs) for one in trainers[:number] for feed in one.feeds)
            yield trainer.fit(lambda updates, before=before: advance(before + updates, total, ""))  # type: ignore[misc]
        return
    global _trainers, _done
    context = multiprocessing.get_context("fork")
    _trainers, _done = trainers, context.Array("q", len(trainers) + 1, lock=False)
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(os.getpid(),)) as pool:
        try:  # a process is forked at each of the first calls of submit
            futures = [pool.submit(_fit, number) for number in range(len(trainers))]
            for trainer, future in zip(trainers, futures, strict=True):
                yield _take(trainer, future, lambda: advance(sum(_done[:-1]), total, ""))
        except BrokenProcessPool as error:
            raise ValueError("The system ended a training's process, perhaps for want of memory. Run again.") from error
        finally:
            _done[-1] = True
            pool.shutdown(cancel_futures=True)
            _trainers = ()


def _take(trainer: StackedTrainer, future: Future[tuple[Outcome, Weights]], look: Any) -> Outcome:
    """Wait for a process and put the weights that it found into the trainer's modules."""
    while not wait([future], LOOK_SECONDS, FIRST_COMPLETED).done:
        look()
    look()
    outcome, weights = future.result()
    for modules, found in zip(trainer.modules, weights, strict=True):
        for module, state in zip(modules, found, strict=True):
            module.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return outcome


def _begin(parent: int) -> None:
    """In a new process: one core, deaf to Ctrl-C, which is the parent's, and killed when the parent dies."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it was asked for
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
