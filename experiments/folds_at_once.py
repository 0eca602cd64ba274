"""Folds side by side on a CPU, each on one core: a fold gains little from a second core, and two take half the time.

A solver reads its matrices once for every few products and draws no random numbers: its folds share this process, in
threads. A training by gradients is many short operations and draws from the process' generator: its folds have a
process each, which shares the hidden states that this one read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

import psutil
import torch
from accelerate import Accelerator

from undertone.common.console import Advance, Display
from undertone.common.processes import Report, can_fork, fork_all
from undertone.corpora.folds import Fold
from undertone.downstream.head import head_class
from undertone.experiments.fitted_heads import store_copies
from undertone.experiments.run import Run, weights_of
from undertone.experiments.run_fold import train_fold
from undertone.training.config import trials
from undertone.training.sources import StoreSource, StreamsSource
from undertone.training.trainer import total_steps
from undertone.upstream.load import is_outside

ARRAYS = 5  # of all features in float64, which a fitted fold holds at its peak
PROCESS_BYTES = 2 * 2**30  # of a process that trains by gradients, beside the hidden states; a batch decides
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


class _Reporting(Display):
    """What a fold in a process shows: nothing; it reports its updates, of `most` in all its trainings."""

    def __init__(self, report: Report, most: int) -> None:
        super().__init__(quiet=True)
        self.report, self.most, self.before = report, most, 0.0

    @contextmanager
    def bar(self, title: str) -> Iterator[Advance]:
        """No bar; what is done is added to what earlier bars of the fold reached."""
        reached = 0.0

        def advance(done: float, total: float, note: str) -> None:
            nonlocal reached
            reached = done
            self.report(min(self.before + done, self.most))

        yield advance
        self.before += reached


def train_at_once(run: Run, folds: Sequence[Fold], accelerator: Accelerator) -> bool:
    """Train and test the folds that are not done side by side, as many as torch has threads and the memory holds.

    If one fails, or the user interrupts, the others end with their current step. A fold that is trained by gradients
    has one thread however many are left: a run that is resumed gives the same bits.

    Returns:
        False, and nothing is trained, where folds have to follow each other: where more is needed than what is stored,
        on a GPU, with several processes or a tracker; for a solver's head from elsewhere, which may draw random
        numbers, or without memory for two folds of a solver; where no process can be forked for gradients.
    """
    config, stores = run.config, _stores(run)
    if not stores or accelerator.num_processes > 1 or accelerator.device.type != "cpu" or config.log_with != "none":
        return False
    fitted, threads = head_class(config.head).is_fitted, torch.get_num_threads()
    computes = config.augment.on_waves and not config.augment.copies and weights_of(run.upstream) != "none"
    forks = can_fork() and config.trained == "frozen" and not computes
    if len(folds) < 2 or threads < 2 or not (not is_outside(config.head) if fitted else forks):
        return False
    if not (folds := [fold for fold in folds if not run.folder.is_done(fold.name)]):
        return True
    for one in {trial.config.seed: trial.config for trial in trials(config)}.values():
        store_copies(run.training_of_everyone(one), list(run.manifest), accelerator)
    if fitted:
        size = sum(part.hidden_size for part in run.upstream.streams.values())
        rows = len(run.manifest) * (1 + config.augment.copies)
        needed = torch.float64.itemsize * rows * (ARRAYS * size + min(rows, size))
        free = psutil.virtual_memory().available - sum(store.room for store in stores)
    else:
        if config.layers == "sum" and "layers" not in config.sweep:  # of a single one each fold reads that alone
            for store in stores:
                store.hold([*run.manifest, *run.unlabelled, *run.copies.values()])
        needed, free = PROCESS_BYTES, psutil.virtual_memory().available
    at_once = max(1, min(threads, len(folds), int(USABLE * free / needed)))
    if fitted and at_once < 2:
        return False
    (_in_threads if fitted else _in_processes)(run, folds, at_once)
    return True


def _stores(run: Run) -> list[StoreSource]:
    """Those that batches come from; empty where they are computed or read as audio, all or a stream of them."""
    sources = list(run.source.parts.values()) if isinstance(run.source, StreamsSource) else [run.source]
    stores = [one for one in sources if isinstance(one, StoreSource)]
    return stores if len(stores) == len(sources) else []


def _in_threads(run: Run, folds: Sequence[Fold], at_once: int) -> None:
    from threadpoolctl import threadpool_limits

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


def _in_processes(run: Run, folds: Sequence[Fold], at_once: int) -> None:
    most = [sum(total_steps(trial.config, len(fold.train)) for trial in trials(run.config)) for fold in folds]
    works = [partial(_train, run, fold, at_once, updates) for fold, updates in zip(folds, most, strict=True)]
    with (
        run.display.bar(f"{len(folds)} fold{'s' * (len(folds) > 1)}, {at_once} at once, updates") as advance,
        closing(fork_all(works, at_once, lambda done: advance(done, sum(most), ""))) as ends,
    ):
        for number, (fold, _) in enumerate(zip(folds, ends, strict=True), 1):
            if run.folder.is_done(fold.name):  # not one that another process trains
                score = run.folder.fold_record(fold.name)["dev_score"]
                dev = "" if score is None else f": dev {score:.3f}"
                run.display.say(f"fold {fold.name} ({number}/{len(folds)}){dev}")


def _train(run: Run, fold: Fold, at_once: int, most: int, report: Report) -> None:
    """In a process of its own: one fold, whose files it writes."""
    for store in _stores(run):
        store.room //= at_once
    train_fold(replace(run, display=_Reporting(report, most)), fold, fold.name)
    report(most)
