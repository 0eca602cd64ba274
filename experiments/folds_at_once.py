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
from undertone.training.config import RunConfig, trials
from undertone.training.sources import StoreSource, StreamsSource
from undertone.training.trainer import total_steps
from undertone.upstream.load import is_outside

ARRAYS = 5  # of all features in float64, which a fitted fold holds at its peak
PROCESS_BYTES = 2 * 2**30  # of a process that trains by gradients, beside the hidden states that all share
COPIES = 3  # of a batch of all layers in float32, which normalised layers need: the states, their norm, its gradient
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
    """What a fold in a process shows: nothing; it reports its updates, of `most` in all, and keeps what is said."""

    def __init__(self, report: Report, fold: str, most: int) -> None:
        super().__init__(quiet=True)
        self.report, self.fold, self.most, self.before = report, fold, most, 0.0
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Keep the line."""
        self.said.append(text)

    @contextmanager
    def bar(self, title: str) -> Iterator[Advance]:
        """No bar; the updates of a training are added to those of the fold's earlier ones."""
        reached = 0.0

        def advance(done: float, total: float, note: str) -> None:
            nonlocal reached
            reached = done if title.startswith(self.fold) else 0.0  # not seconds of audio
            self.report(min(self.before + reached, self.most))

        yield advance
        self.before += reached


def train_at_once(run: Run, folds: Sequence[Fold], accelerator: Accelerator) -> bool:
    """Train and test the folds that are not done side by side, as many as torch has threads and the memory holds.

    If one fails, or the user interrupts, the others end with their current step. A fold that is trained by gradients
    has one thread however many are left and however little memory is free, so that a resumed run gives the same bits.

    Returns:
        False, and nothing is trained, where folds have to follow each other, each on all threads: where more is needed
        than what is stored, on a GPU, with several processes or a tracker; for a solver's head from elsewhere, which
        may draw random numbers; where no process can be forked for gradients; and for a solver without memory for two.
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
    if not fitted and config.layers == "sum" and "layers" not in config.sweep:  # of a single one each fold reads that
        _hold(run, stores)
    room_for = _solvers_in_memory(run, stores) if fitted else processes_in_memory(config, _longest(run, stores))
    if fitted and min(room_for, len(folds)) < 2:
        return False
    (_in_threads if fitted else _in_processes)(run, folds, max(1, min(threads, len(folds), room_for)))
    return True


def _solvers_in_memory(run: Run, stores: Sequence[StoreSource]) -> int:
    """How many folds of a fitted head the free memory has room for, beside what is read from the stores."""
    size = sum(part.hidden_size for part in run.upstream.streams.values())
    rows = len(run.manifest) * (1 + run.config.augment.copies)
    needed = torch.float64.itemsize * rows * (ARRAYS * size + min(rows, size))
    return int(USABLE * (psutil.virtual_memory().available - sum(store.room for store in stores)) / needed)


def processes_in_memory(config: RunConfig, values: int) -> int:
    """How many trainings by gradients on stored states the free memory has room for; the longest clip has `values`."""
    batch = COPIES * torch.float32.itemsize * config.batch_size * values if config.layer_norm else 0
    return int(USABLE * psutil.virtual_memory().available / (PROCESS_BYTES + batch))


def _longest(run: Run, stores: Sequence[StoreSource]) -> int:
    """How many values the states of the longest clip have."""
    longest = max(run.manifest, key=lambda item: item.duration)
    return sum(store.store.get(store.store.key(longest)).numel() for store in stores)


def _stores(run: Run) -> list[StoreSource]:
    """Those that batches come from; empty where they are computed or read as audio, all or a stream of them."""
    sources = list(run.source.parts.values()) if isinstance(run.source, StreamsSource) else [run.source]
    stores = [one for one in sources if isinstance(one, StoreSource)]
    return stores if len(stores) == len(sources) else []


def _hold(run: Run, stores: Sequence[StoreSource]) -> None:
    """Read what all folds will read into the memory that they share, as far as it is allowed."""
    utterances = [*run.manifest, *run.unlabelled, *run.copies.values()]
    with run.display.bar("reading hidden states") as advance:
        for number, store in enumerate(stores):
            for done in store.hold(utterances):
                advance(number * len(utterances) + done, len(stores) * len(utterances), "")


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
    works = [partial(_train, run, fold, updates) for fold, updates in zip(folds, most, strict=True)]
    title = f"{len(folds)} folds, {at_once} at once, updates" if len(folds) > 1 else f"fold {folds[0].name}"
    stores, rooms = _stores(run), [store.room for store in _stores(run)]
    for store in stores:
        store.room //= at_once  # for what a process reads itself
    try:
        with (
            run.display.bar(title) as advance,
            closing(fork_all(works, at_once, lambda done: advance(done, sum(most), ""))) as ends,
        ):
            for number, (fold, said) in enumerate(zip(folds, ends, strict=True), 1):
                for line in said:
                    run.display.say(line)
                if run.folder.is_done(fold.name):  # not one that another process trains
                    score = run.folder.fold_record(fold.name)["dev_score"]
                    dev = "" if score is None else f": dev {score:.3f}"
                    run.display.say(f"fold {fold.name} ({number}/{len(folds)}){dev}")
    finally:
        for store, room in zip(stores, rooms, strict=True):
            store.room = room


def _train(run: Run, fold: Fold, most: int, report: Report) -> list[str]:
    """In a process of its own: one fold, whose files it writes; what it had to say."""
    display = _Reporting(report, fold.name, most)
    train_fold(replace(run, display=display), fold, fold.name)
    report(most)
    return display.said
