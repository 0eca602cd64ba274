"""Sounds in batches of like length, read by threads while something else computes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

READ_AHEAD = 3  # batches that are read while one is computed
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


def read_ahead(
    batches: Iterable[Sequence[Item]], read: Callable[[Item], Result]
) -> Iterator[tuple[Sequence[Item], list[Result]]]:
    """Each batch with what `read` gave for its items; threads read the next ones while the caller computes."""
    import torch

    waiting: deque[tuple[Sequence[Item], list[Future[Result]]]] = deque()
    num_threads = torch.get_num_threads()
    with ThreadPoolExecutor(READERS, initializer=partial(torch.set_num_threads, 1)) as pool:
        try:
            for batch in batches:
                waiting.append((batch, [pool.submit(read, item) for item in batch]))
                if len(waiting) > READ_AHEAD:
                    first, futures = waiting.popleft()
                    yield first, [future.result() for future in futures]
            for first, futures in waiting:
                yield first, [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(num_threads)  # what a thread sets holds for all that start later
