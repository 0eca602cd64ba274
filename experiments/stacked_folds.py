"""Folds, seeds and values of a sweep that are trained side by side: those of a head on means."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import cast

import torch
from accelerate import Accelerator
from filelock import Timeout

from undertone.corpora.folds import Fold
from undertone.downstream.head import head_class
from undertone.downstream.heads.linear import LinearHead
from undertone.downstream.network import Downstream
from undertone.experiments.run import Run
from undertone.experiments.run_fold import fold_lock, is_done, read_tried, write_fold, write_tried
from undertone.experiments.sweep import TRIED, chosen_trials, combine
from undertone.training.accelerator import make_accelerator
from undertone.training.config import RunConfig, Trial, trials
from undertone.training.sources import StoreSource
from undertone.training.stack.processes import fit_all
from undertone.training.stack.stacked_trainer import PER_RUN, StackedTrainer, TrainingGroup
from undertone.training.trainer import Trained, flatten_record, total_steps

Fit = tuple[StackedTrainer, list[list[Trained]]]


@dataclass(frozen=True)
class _Group:
    """The trials of a fold that a feed trains, in its order."""

    fold: Fold
    trials: tuple[Trial, ...]
    feed: TrainingGroup


def can_stack(run: Run, accelerator: Accelerator) -> bool:
    """Whether the run's trainings can go side by side.

    They can where the head is `linear` and its means fit into memory, one process trains in float32, nothing but the
    model learns and nothing is augmented.
    """
    source, plan = run.source, [trial.config for trial in trials(run.config)]
    if not isinstance(source, StoreSource) or source.store.kind != "mean" or accelerator.num_processes > 1:
        return False
    if run.config.mixed_precision != "no" or run.config.adversarial or run.config.not_finite == "skip":
        return False
    if any(config.task_weighting != "fixed" for config in plan) or not source.can_hold(list(run.manifest)):
        return False
    if run.config.refit_on_dev or run.config.ladder or run.config.augment.is_on:
        return False
    return all(head_class(config.head) is LinearHead for config in plan)


def train_stacked(run: Run, folds: Sequence[Fold]) -> None:
    """Train every trial of these folds that is not done, and write its files; to 1e-5 what each gives alone.

    Folds that another process holds are left to it. On a CPU a stack is one fold with one seed, so that every core has
    one to step; on a GPU one stack holds all. A run that is killed begins the folds anew that are not written yet.
    """
    with ExitStack() as locks:
        mine = [fold for fold in folds if _take(run, fold, locks)]
        on_gpu, plan, began = _source(run).device.type == "cuda", trials(run.config), time.monotonic()
        stacks = _plan(run, mine, on_gpu)
        if not on_gpu:
            stacks = _spread(stacks, torch.get_num_threads())
        title = f"{len(mine)} folds" + (f" x {len(plan)} trainings" if len(plan) > 1 else "")
        fits = locks.enter_context(closing(_fit(run, [[group.feed for group in stack] for stack in stacks], title)))
        for stack, (trainer, outcomes) in zip(stacks, fits, strict=True):
            for group, row, modules in zip(stack, outcomes, trainer.modules, strict=True):
                for trial, trained, module in zip(group.trials, row, modules, strict=True):
                    _write(run, group, trial, module, trained, time.monotonic() - began)
        for fold in mine if len(plan) > 1 else []:
            _finish(run, fold, plan)


def refit_stacked(run: Run, total: int, stop_at: int, title: str) -> Downstream:
    """A downstream trained on all speakers, without dev, for `stop_at` updates of a schedule of `total`."""
    feed = TrainingGroup("all", list(run.manifest), [], (run.config,), total, run.out / "refit", stop_at)
    ((trainer, _),) = _fit(run, [[feed]], title)
    return trainer.modules[0][0]


def _take(run: Run, fold: Fold, locks: ExitStack) -> bool:
    """Whether this process trains the fold: it is not done, and no other process holds its lock."""
    if is_done(run, fold):
        return False
    try:
        locks.enter_context(fold_lock(run, fold).acquire(timeout=0))
    except Timeout:
        return False
    return not is_done(run, fold)


def _plan(run: Run, folds: Sequence[Fold], on_gpu: bool) -> list[list[_Group]]:
    """The stacks: groups of trials that share their batches, on a GPU joined where their gradients are alike."""
    stacks: dict[object, list[_Group]] = {}
    for fold in folds:
        alike: dict[tuple[str, int], list[Trial]] = {}
        for trial in trials(run.config):
            settings = trial.config.model_dump_json(exclude={*PER_RUN, "seed"})
            alike.setdefault((settings, trial.config.seed), []).append(trial)
        train, dev = run.manifest.select(fold.train), run.manifest.select(fold.dev)
        for (settings, seed), members in alike.items():
            if all((run.folder(fold) / trial.name / TRIED).is_file() for trial in members):
                continue
            configs = tuple(trial.config for trial in members)
            feed = TrainingGroup(fold.name, train, dev, configs, total_steps(configs[0], len(train)), run.folder(fold))
            key = (settings, len(members)) if on_gpu else (settings, seed, fold.name)
            stacks.setdefault(key, []).append(_Group(fold, tuple(members), feed))
    return list(stacks.values())


def _spread(stacks: list[list[_Group]], threads: int) -> list[list[_Group]]:
    """The stacks of one group each, the last ones cut so that all threads end at about the same time."""
    whole = len(stacks) - len(stacks) % threads
    spread = stacks[:whole]
    for (group,) in stacks[whole:]:
        size = -(-len(group.trials) // threads)
        for start in range(0, len(group.trials), size):
            feed = replace(group.feed, configs=group.feed.configs[start : start + size])
            spread.append([replace(group, trials=group.trials[start : start + size], feed=feed)])
    return spread


def _fit(run: Run, stacks: Sequence[list[TrainingGroup]], title: str) -> Generator[Fit]:
    """The trainer of each stack and its outcome, in their order."""
    means = _source(run).means(list(run.manifest))
    rows = {item.id: row for row, item in enumerate(run.manifest)}
    trainers = []
    for feeds in stacks:
        modules = [[_new(run, config, feed.name) for config in feed.configs] for feed in feeds]
        trainers.append(StackedTrainer(feeds, run.tasks, means, rows, modules))
    with run.display.bar(title) as advance, closing(fit_all(trainers, advance)) as outcomes:
        yield from zip(trainers, outcomes, strict=True)


def _source(run: Run) -> StoreSource:
    return cast(StoreSource, run.source)  # as `can_stack` found


def _new(run: Run, config: RunConfig, name: str) -> Downstream:
    return replace(run, config=config).new_downstream(name).to(_source(run).device)


def _finish(run: Run, fold: Fold, plan: Sequence[Trial]) -> None:
    """Choose among a fold's trials, read test with the chosen ones, and write the fold's files."""
    folder = run.folder(fold)
    for trial in chosen_trials(folder, plan):
        place = folder / trial.name
        if not (place / "fold.json").is_file():
            own, module = replace(run, config=trial.config), _new(run, trial.config, fold.name)
            outcome = read_tried(place, module)
            write_fold(own, fold, place, make_accelerator(trial.config, place), module, *outcome, fold.train)
    combine(folder, plan)


def _write(run: Run, group: _Group, trial: Trial, module: Downstream, trained: Trained, seconds: float) -> None:
    """The files of one training, unless an earlier process wrote them; a tracker is told its history.

    One of several waits for the others, and predicts test only if it is chosen.
    """
    folder = run.folder(group.fold) / trial.name
    if (folder / TRIED).is_file():
        return
    accelerator = make_accelerator(trial.config, folder)
    accelerator.init_trackers("tensorboard")
    for record in trained.history:
        accelerator.log(flatten_record(record), step=record["step"])
    if trial.name:
        write_tried(folder, module, trained, seconds)
        return
    own = replace(run, config=trial.config)
    write_fold(own, group.fold, folder, accelerator, module, trained, seconds, group.fold.train)
