"""Clips in batches of like length, made ready by threads while something else computes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

READ_AHEAD = 3  # batches that lie ready beside those in the workers' hands
READERS = min(8, os.cpu_count() or 1)  # threads that decode and resample


def plan_batches(items: Iterable[Item], seconds: Callable[[Item], float], batch_seconds: float) -> list[list[Item]]:
    """Items of like length together: at most `batch_seconds` with padding, or one item.

    The longest batch comes first, so that a lack of memory shows at once.
    """
    batches: list[list[Item]] = []
    for item in sorted(items, key=lambda item: -seconds(item)):
        if batches and seconds(batches[-1][0]) * (len(batches[-1]) + 1) <= batch_seconds:
            batches[-1].append(item)
        else:
            batches.append([item])
    return batches


def ahead(
    batches: Iterable[Sequence[Item]],
    work: Callable[[Sequence[Item]], Result],
    *,
    workers: int = READERS,
    threads: int = 1,
) -> Iterator[tuple[Sequence[Item], Result]]:
    """Each batch with what `work` gives for it, in order; workers, each of `threads` threads, prepare the next ones."""
    import torch

    waiting: deque[tuple[Sequence[Item], Future[Result]]] = deque()
    num_threads = torch.get_num_threads()
    with ThreadPoolExecutor(workers, initializer=partial(torch.set_num_threads, threads)) as pool:
        try:
            for batch in batches:
                waiting.append((batch, pool.submit(work, batch)))
                if len(waiting) >= workers + READ_AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for first, future in waiting:
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(num_threads)  # what a thread sets holds for all that start later
