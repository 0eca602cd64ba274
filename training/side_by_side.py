"""Stacks on all cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import torch

from undertone.training.linear_stack import LinearStack
from undertone.training.progress import Advance
from undertone.training.stacked_trainer import StackedTrainer
from undertone.training.trainer import Trained


def fit_all(trainers: Sequence[StackedTrainer], advance: Advance) -> Iterator[list[list[Trained]]]:
    """Train all stacks, on a CPU as many at once as torch has threads, each on one.

    Several at once share torch's random state, so that only stacks which draw nothing while they train can do so.

    Args:
        trainers: on one device.
        advance: told the updates of all of them.

    Yields:
        the outcome of each, in their order.
    """
    done, total = [0] * len(trainers), sum(feed.last * len(feed.configs) for one in trainers for feed in one.feeds)
    stopped = Event()

    def fit(number: int) -> list[list[Trained]]:
        def follow(updates: int) -> None:
            done[number] = updates
            advance(sum(done), total, "")
            if stopped.is_set():
                raise InterruptedError

        return trainers[number].fit(follow)

    threads = torch.get_num_threads()
    draw_nothing = all(isinstance(one.stack, LinearStack) for one in trainers)
    if threads == 1 or len(trainers) == 1 or not draw_nothing or trainers[0].means.is_cuda:
        yield from map(fit, range(len(trainers)))
        return
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(fit, range(len(trainers)))
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # some of the libraries below have one number for all threads
