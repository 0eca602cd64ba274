"""Folds whose head a solver fits, side by side in threads, each on one core.

A solver's matrices are read once for every few products, so that one fold gains little from a second core, and two
folds take half the time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace

import psutil
import torch
from accelerate import Accelerator

from undertone.common.console import Advance, Display
from undertone.corpora.folds import Fold
from undertone.downstream.head import head_class
from undertone.experiments.fitted_heads import store_copies
from undertone.experiments.run import Run
from undertone.experiments.run_fold import train_fold
from undertone.training.config import trials
from undertone.training.sources import StoreSource, StreamsSource
from undertone.upstream.load import is_outside

ARRAYS = 5  # of all features in float64, which a fold holds at its peak
USABLE = 0.5  # of the memory that is free


class _Silent(Display):
    """What a fold in a thread shows: nothing; once the run is to end, its next step raises."""

    def __init__(self, ends: threading.Event) -> None:
        super().__init__(quiet=True)
        self.ends = ends

    @contextmanager
    def bar(self, title: str) -> Iterator[Advance]:
        """No bar; what it yields raises KeyboardInterrupt once the run is to end."""

        def advance(done: float, total: float, note: str) -> None:
            if self.ends.is_set():
                raise KeyboardInterrupt

        yield advance


def folds_at_once(run: Run, folds: Sequence[Fold], accelerator: Accelerator) -> int:
    """How many of the folds go side by side: one for each thread of torch, as far as the memory reaches; at least 1.

    One, too, where more is needed than what is stored, on a GPU, with several processes or a tracker, and for a head
    from elsewhere, which may draw random numbers.
    """
    config = run.config
    sources = list(run.source.parts.values()) if isinstance(run.source, StreamsSource) else [run.source]
    stores = [one for one in sources if isinstance(one, StoreSource)]
    if len(stores) < len(sources):
        return 1
    if not head_class(config.head).is_fitted or is_outside(config.head) or config.log_with != "none":
        return 1
    if accelerator.num_processes > 1 or accelerator.device.type != "cpu":
        return 1
    size = sum(part.hidden_size for part in run.upstream.streams.values())
    rows = len(run.manifest) * (1 + config.augment.copies)
    needed = torch.float64.itemsize * rows * (ARRAYS * size + min(rows, size))
    usable = USABLE * (psutil.virtual_memory().available - sum(store.room for store in stores))
    left = sum(not run.folder.is_done(fold.name) for fold in folds)
    return max(1, min(torch.get_num_threads(), left, int(usable / needed)))


def fit_folds(run: Run, folds: Sequence[Fold], accelerator: Accelerator, at_once: int) -> None:
    """Fit the folds that are not done, `at_once` at a time, each on one thread.

    If one fails, or the user interrupts, the others end with their current step.
    """
    from threadpoolctl import threadpool_limits

    for config in {trial.config.seed: trial.config for trial in trials(run.config)}.values():
        store_copies(run.training_of_everyone(config), list(run.manifest), accelerator)
    ends, threads = threading.Event(), torch.get_num_threads()
    silent = replace(run, display=_Silent(ends))

    def fit(fold: Fold) -> None:
        torch.set_num_threads(1)  # of this thread
        train_fold(silent, fold, fold.name)

    try:
        with (
            run.display.bar(f"{len(folds)} folds, {at_once} at once") as advance,
            threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(at_once) as pool,
        ):
            try:
                fits = [pool.submit(fit, fold) for fold in folds]
                for done, one in enumerate(as_completed(fits), 1):
                    one.result()
                    advance(done, len(folds), "")
            finally:
                ends.set()
                pool.shutdown(cancel_futures=True)
    finally:
        torch.set_num_threads(threads)
