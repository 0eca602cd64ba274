"""Folds, seeds and values of a sweep that are trained side by side: those of the head `linear`, on means."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator

from undertone.common.console import Advance
from undertone.common.processes import Report, can_fork, fork_all, one_thread
from undertone.corpora.folds import Fold
from undertone.downstream.head import head_class
from undertone.downstream.heads.linear import LinearHead
from undertone.downstream.network import Downstream
from undertone.experiments.run import Run, Training
from undertone.experiments.run_fold import read_tried, write_fold, write_tried
from undertone.experiments.sweep import TRIED, chosen_trials, combine
from undertone.training.accelerator import finish_tracker, start_tracker
from undertone.training.config import RunConfig, trials
from undertone.training.sources import StoreSource
from undertone.training.stack.stacked_trainer import PER_RUN, StackedTrainer, TrainingGroup
from undertone.training.trainer import Trained, flatten_record, total_steps

Outcome = list[list[Trained]]  # of each group's trainings
Fit = tuple[StackedTrainer, Outcome]


@dataclass(frozen=True)
class _Group:
    """Trainings that see the same batches: those of one fold with one seed."""

    trainings: tuple[Training, ...]
    stop_at: int | None = None
    total: int | None = None

    def for_trainer(self) -> TrainingGroup:
        """What the trainer is given."""
        first = self.trainings[0]
        total = self.total or total_steps(first.config, len(first.fold.train))
        configs = tuple(training.config for training in self.trainings)
        folder = first.folder if len(configs) == 1 else first.folder.parent
        return TrainingGroup(first.fold.name, first.train, first.dev, configs, total, folder, self.stop_at)


def can_stack(run: Run, config: RunConfig, accelerator: Accelerator) -> bool:
    """Whether the trainings that a config asks for can go side by side.

    They can where one process trains them, their settings are `stackable`, and the means that they read fit into
    memory.
    """
    source = run.source
    if not isinstance(source, StoreSource) or source.store.kind != "mean" or accelerator.num_processes > 1:
        return False
    return stackable(config) and source.can_hold(list(run.manifest))


def stackable(config: RunConfig) -> bool:
    """Whether the settings are such: head `linear`, and nothing but the head is trained or augmented."""
    if config.adversarial or config.not_finite == "skip":
        return False
    if config.refit_on_dev or config.unlabelled is not None or config.ladder or config.augment.is_on:
        return False
    configs = [trial.config for trial in trials(config)]
    return all(one.task_weighting == "fixed" and head_class(one.head) is LinearHead for one in configs)


def train_stacked(run: Run, folds: Sequence[Fold]) -> None:
    """Train every trial of these folds that is not done, and write its files; to 1e-5 what each gives alone.

    Folds that another process trains are left to it. On a CPU a stack is one fold with one seed, one for each core; on
    a GPU one stack holds all. A killed run starts again with the folds that are not written yet.
    """
    with ExitStack() as locks:
        mine = []
        for fold in folds:
            if (lock := run.folder.lock(fold.name)) is not None:
                locks.callback(lock.release)
                mine.append(fold)
        num_trials, started = len(trials(run.config)), time.monotonic()
        stacks = _stacks(run, mine)
        title = f"{len(mine)} folds" + (f" x {num_trials} trainings" if num_trials > 1 else "")
        fits = locks.enter_context(closing(_fit(run, stacks, title)))
        for stack, (trainer, outcomes) in zip(stacks, fits, strict=True):
            for group, row, modules in zip(stack, outcomes, trainer.modules, strict=True):
                for training, trained, module in zip(group.trainings, row, modules, strict=True):
                    _write(training, module, trained, time.monotonic() - started)
        for fold in mine if num_trials > 1 else []:
            _finish(run, fold)


def refit_stacked(training: Training, total: int, stop_at: int) -> Downstream:
    """The downstream of a training without dev, after `stop_at` updates of a schedule of `total`."""
    ((trainer, _),) = _fit(training.run, [[_Group((training,), stop_at, total)]], training.title)
    return trainer.modules[0][0]


def _stacks(run: Run, folds: Sequence[Fold]) -> list[list[_Group]]:
    """The stacks: groups of trainings that share their batches, on a GPU joined where their gradients are alike."""
    on_gpu = _source(run).device.type == "cuda"
    stacks: dict[object, list[_Group]] = {}
    for fold in folds:
        alike: dict[tuple[str, int], list[Training]] = {}
        for trial in trials(run.config):
            settings = trial.config.model_dump_json(exclude={*PER_RUN, "seed"})
            alike.setdefault((settings, trial.config.seed), []).append(run.training(fold, trial))
        for (settings, seed), members in alike.items():
            if not all((training.folder / TRIED).is_file() for training in members):
                key = (settings, len(members)) if on_gpu else (settings, seed, fold.name)
                stacks.setdefault(key, []).append(_Group(tuple(members)))
    return _balanced(list(stacks.values()), torch.get_num_threads()) if can_fork() else list(stacks.values())


def _balanced(stacks: list[list[_Group]], threads: int) -> list[list[_Group]]:
    """The stacks of one group each, the last ones divided so that all threads end at about the same time."""
    whole = len(stacks) - len(stacks) % threads
    found = stacks[:whole]
    for (group,) in stacks[whole:]:
        size = -(-len(group.trainings) // threads)
        for start in range(0, len(group.trainings), size):
            found.append([replace(group, trainings=group.trainings[start : start + size])])
    return found


def _fit(run: Run, stacks: Sequence[list[_Group]], title: str) -> Generator[Fit]:
    """The trainer of each stack and its outcome, in their order."""
    source = _source(run)
    means = source.means(list(run.manifest))
    rows = {item.id: row for row, item in enumerate(run.manifest)}
    trainers = []
    for stack in stacks:
        modules = [[one.new_downstream().to(source.device) for one in group.trainings] for group in stack]
        trainers.append(StackedTrainer([group.for_trainer() for group in stack], run.tasks, means, rows, modules))
    with run.display.bar(title) as advance, closing(_fit_all(trainers, advance)) as outcomes:
        yield from zip(trainers, outcomes, strict=True)


def _fit_all(trainers: Sequence[StackedTrainer], advance: Advance) -> Generator[Outcome]:
    """Train all stacks, as many at once as torch has threads where processes can be forked; their outcomes, in order.

    Each has one thread. On a CPU their modules hold the best weights in the end. `advance` is called with the updates
    of all of them.
    """
    sizes = [sum(group.last * len(group.configs) for group in trainer.groups) for trainer in trainers]
    at_once = min(torch.get_num_threads(), len(trainers))
    if at_once <= 1 or not can_fork():
        for number, trainer in enumerate(trainers):
            before = sum(sizes[:number])
            with one_thread():
                outcome = trainer.fit(lambda updates, before=before: advance(before + updates, sum(sizes), ""))  # type: ignore[misc]
            yield outcome
        return
    works = [partial(_fit_stack, trainer) for trainer in trainers]
    with closing(fork_all(works, at_once, lambda done: advance(done, sum(sizes), ""))) as outcomes:
        for trainer, (outcome, weights) in zip(trainers, outcomes, strict=True):
            for modules, found in zip(trainer.modules, weights, strict=True):
                for module, state in zip(modules, found, strict=True):
                    module.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
            yield outcome


def _fit_stack(trainer: StackedTrainer, report: Report) -> tuple[Outcome, list[list[dict[str, np.ndarray]]]]:
    """In a process of its own: the outcome of each group's trainings, and their weights."""
    outcome = trainer.fit(report)
    return outcome, [[{n: v.numpy() for n, v in one.state_dict().items()} for one in row] for row in trainer.modules]


def _source(run: Run) -> StoreSource:
    return cast(StoreSource, run.source)  # as `can_stack` found


def _finish(run: Run, fold: Fold) -> None:
    """Choose among a fold's trials, read test with the chosen ones, and write the fold's files."""
    folder, plan = run.folder.fold(fold.name), trials(run.config)
    for trial in chosen_trials(folder, plan):
        training = run.training(fold, trial)
        if not (training.folder / "fold.json").is_file():
            module = training.new_downstream().to(_source(run).device)
            outcome = read_tried(training.folder, module)
            write_fold(training, training.accelerator(), module, *outcome, training.train)
    combine(folder, plan)


def _write(training: Training, module: Downstream, trained: Trained, seconds: float) -> None:
    """The files of one training, unless an earlier process wrote them, and its history for a tracker.

    One of several trials waits for the others, and predicts test only if it is chosen.
    """
    if (training.folder / TRIED).is_file():
        return
    accelerator = training.accelerator()
    start_tracker(accelerator, training.config, training.folder)
    for record in trained.history:
        accelerator.log(flatten_record(record), step=record["step"])
    if training.folder != training.run.folder.fold(training.fold.name):  # one trial of several
        finish_tracker(accelerator)
        write_tried(training.folder, module, trained, seconds)
    else:
        write_fold(training, accelerator, module, trained, seconds, training.train)
