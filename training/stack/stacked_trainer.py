"""Many trainings of a head on means at once: batches and order, rates, clipping and selection as one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from undertone.downstream.heads.linear import LinearHead
from undertone.downstream.losses import LossOptions
from undertone.downstream.network import Downstream
from undertone.downstream.task import Task
from undertone.scoring.predictions import Predictions
from undertone.training.checkpoint import Progress, average_weights
from undertone.training.config import RunConfig
from undertone.training.objective import balanced
from undertone.training.prediction_loop import selection_score, task_scores
from undertone.training.seeding import epoch_batches, utterance_keys
from undertone.training.sources import StoreSource
from undertone.training.stack.linear_stack import LinearStack
from undertone.training.stack.stack import Stack, StackBatch, TracedStack
from undertone.training.targets import scored_targets, scored_task, targets
from undertone.training.trainer import (
    NotFiniteError,
    Trained,
    is_look,
    not_finite_sentence,
    note_not_finite,
    rate_factor,
)

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance

PER_RUN = (
    "layers",
    "learning_rate",
    "layer_sum_learning_rate",
    "weight_decay",
    "warmup",
    "schedule",
    "clip_norm",
    "patience",
    "average_top",
)
"""Settings in which the trainings of a feed may differ: they change neither its batches nor how a gradient is made.

One layer alone is a layer sum whose logits are 0 and minus infinity: their gradient is exactly 0, and they stay.
"""

Follow = Callable[[int], None]  # updates done, of all trainings


@dataclass(frozen=True)
class Feed:
    """The trainings that see the same batches: those of one fold with one seed.

    Attributes:
        name: of the fold; the first weights depend on it and the seed.
        train: utterances to learn from.
        dev: utterances that select; empty: the last weights are kept.
        configs: of each training; they differ in `PER_RUN` alone.
        total: updates of the whole schedule.
        stop_at: stop after this many updates; None: when the schedule ends.
        folder: where an update that is not finite is written down.
    """

    name: str
    train: Sequence[Utterance]
    dev: Sequence[Utterance]
    configs: tuple[RunConfig, ...]
    total: int
    folder: Path
    stop_at: int | None = None

    @property
    def last(self) -> int:
        """Updates until it stops, if patience does not end it."""
        return min(self.total, self.stop_at or self.total)


class _Course:
    """What a feed's trainings do over time: the endless stream of its batches, and where each training stands."""

    def __init__(self, feed: Feed, tasks: tuple[Task, ...], rows: dict[str, int], device: torch.device) -> None:
        self.feed, self.config = feed, feed.configs[0]
        self.progress = [Progress() for _ in feed.configs]
        self.kept: list[dict[int, dict[str, Tensor]]] = [{} for _ in feed.configs]  # step -> weights
        # One row more than utterances stands for padding: its targets are missing.
        padded = [*feed.train, feed.train[0]]
        self.rows = torch.tensor([rows[item.id] for item in padded], device=device)
        self.keys = utterance_keys(feed.train).to(device)
        self.truth = {task.name: torch.from_numpy(targets(task, padded)) for task in tasks}
        for value in self.truth.values():
            value[-1] = torch.nan if value.is_floating_point() else -1
        self.truth = {name: value.to(device) for name, value in self.truth.items()}
        self.dev_rows = torch.tensor([rows[item.id] for item in feed.dev], dtype=torch.int64, device=device)
        self.dev = _blank(tasks, feed.dev)
        self.looked = 0  # step of the last look
        self.batches = self._batches(device)

    def _batches(self, device: torch.device) -> Iterator[tuple[Tensor, int, int, bool]]:
        """Positions (B,) in the padded utterances, how many are no padding, the epoch, and whether it ends here."""
        ids, durations = [item.id for item in self.feed.train], [item.duration for item in self.feed.train]
        size = self.config.batch_size
        for epoch in count():
            batches = epoch_batches(ids, durations, size, self.config.seed, epoch, StoreSource.jitter)
            table = torch.tensor([batch + [len(ids)] * (size - len(batch)) for batch in batches], device=device)
            for place, batch in enumerate(batches, 1):
                yield table[place - 1], len(batch), epoch, place == len(batches)


class StackedTrainer:
    """Trains several feeds side by side; what `Trainer` gives one by one, but for rounding.

    In float32 that is 1e-5 and better up to rates of 1e-3; the layer sum's logits, at 0.1, differ by a few 1e-5.

    Args:
        feeds: as many trainings each.
        tasks: what is predicted.
        means: (L, N, D), on the device to compute on.
        rows: utterance id -> row of `means`.
        modules: the untrained downstream of each feed's trainings; they end with the best weights.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        tasks: tuple[Task, ...],
        means: Tensor,
        rows: dict[str, int],
        modules: Sequence[Sequence[Downstream]],
    ) -> None:
        self.feeds, self.tasks, self.means, self.modules = feeds, tasks, means, modules
        self.courses = [_Course(feed, tasks, rows, means.device) for feed in feeds]
        config = feeds[0].configs[0]
        options = LossOptions(config.label_smoothing, config.focal_gamma, config.regression_loss)
        weighed = [task for task in tasks if task.has_classes and config.class_weights == "balanced"]
        class_weights = {
            task.name: torch.stack([balanced(task, feed.train) for feed in feeds]).to(means.device) for task in weighed
        }
        kind = LinearStack if type(modules[0][0].head) is LinearHead else TracedStack
        self.stack: Stack = kind(modules, tasks, options, class_weights)
        self.optimizer = self._make_optimizer()
        largest = [[config.clip_norm for config in feed.configs] for feed in feeds]
        self.largest_norms = torch.tensor(largest, device=means.device, dtype=means.dtype)  # (F, R)
        self.drawn = means.new_empty(means.shape[0], len(feeds) * config.batch_size, means.shape[2])  # (L, F B, D)
        self.losses = torch.zeros(len(feeds), len(feeds[0].configs), device=means.device)  # since the last look

    def _make_optimizer(self) -> torch.optim.AdamW:
        """AdamW with the groups of each training, as `make_optimizer` has them, on views of the stacked weights."""
        groups: list[dict[str, Any]] = []
        for place, feed in enumerate(self.feeds):
            for run, config in enumerate(feed.configs):
                head = self.stack.num_layers if config.layer_sum_learning_rate is not None else 0
                parts = [(slice(head, None), config.learning_rate, config.weight_decay)]
                if head:
                    parts.append((slice(head), config.layer_sum_learning_rate, 0.0))
                for part, rate, decay in parts:
                    weights = self.stack.flat_weights[place, run, part]
                    weights.grad = self.stack.flat_gradients[place, run, part]
                    group = {"params": weights, "initial_lr": rate, "weight_decay": decay}
                    groups.append(group | {"feed": feed, "config": config})
        return torch.optim.AdamW(groups, fused=True)

    def fit(self, follow: Follow = lambda done: None) -> list[list[Trained]]:
        """Train until every training has done its steps or dev has not improved for `patience` looks.

        Args:
            follow: called after every update of the stack.

        Returns:
            the outcome of each feed's trainings; their modules hold the best weights.
        """
        step = 0
        while not all(progress.finished for course in self.courses for progress in course.progress):
            drawn = [next(course.batches) for course in self.courses]
            self._update(step, drawn)
            step += 1
            for place, (course, (_, _, epoch, end)) in enumerate(zip(self.courses, drawn, strict=True)):
                if step <= course.feed.last and is_look(course.config, step, course.feed.last, end):
                    self._look(place, course, step, epoch + end)
            follow(sum(min(step, feed.last) * len(feed.configs) for feed in self.feeds))
        return [[self._end(place, run) for run in range(len(feed.configs))] for place, feed in enumerate(self.feeds)]

    def _update(self, step: int, drawn: Sequence[tuple[Tensor, int, int, bool]]) -> None:
        """One update of all trainings."""
        rows = torch.cat([course.rows[draw[0]] for course, draw in zip(self.courses, drawn, strict=True)])  # (F B,)
        truth = {
            task.name: torch.stack(
                [course.truth[task.name][draw[0]] for course, draw in zip(self.courses, drawn, strict=True)]
            )
            for task in self.tasks
        }
        states = torch.index_select(self.means, 1, rows, out=self.drawn).unflatten(1, (len(self.feeds), -1))
        seeds = [(course.config.seed, "step", step) for course in self.courses]
        traced = isinstance(self.stack, TracedStack)
        keys = [course.keys[draw[0][: draw[1]]] for course, draw in zip(self.courses, drawn, strict=True) if traced]
        batch = StackBatch(states, truth, [draw[1] for draw in drawn], seeds, keys)
        losses, norms = self.stack.backward(batch, self.largest_norms)
        self._stop_if_not_finite(step, drawn, losses, norms)
        self.losses += losses
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * _factor(group["config"], step, group["feed"].total)
        self.optimizer.step()

    def _stop_if_not_finite(
        self, step: int, drawn: Sequence[tuple[Tensor, int, int, bool]], losses: Tensor, norms: Tensor
    ) -> None:
        """Write down the batch of the first training whose update is not finite, and stop before it is taken."""
        broken = ~torch.isfinite(losses + norms)  # (F, R)
        if not broken.any():
            return
        place, run = broken.nonzero()[0].tolist()
        feed, (positions, size, *_) = self.feeds[place], drawn[place]
        ids = [feed.train[position].id for position in positions[:size].tolist()]
        loss, norm = float(losses[place, run]), float(norms[place, run])
        note_not_finite(feed.folder, step, loss, norm, ids)
        raise NotFiniteError(not_finite_sentence(feed.folder, step, loss, norm, size))

    def _look(self, place: int, course: _Course, step: int, epoch: int) -> None:
        """Score dev with a feed's trainings, and keep of each the weights that are among its best."""
        feed = course.feed
        losses = (self.losses[place] / (step - course.looked)).tolist()
        self.losses[place], course.looked = 0, step
        scores = self._dev_scores(place, course) if feed.dev else {}
        for run, (config, progress) in enumerate(zip(feed.configs, course.progress, strict=True)):
            if progress.finished:
                continue
            progress.step, progress.epoch = step, epoch
            rate = config.learning_rate * _factor(config, step - 1, feed.total)
            record: dict[str, Any] = {"step": step, "epoch": epoch, "lr": rate}
            record["train_loss"] = losses[run]
            if feed.dev:
                dev = replace(course.dev, scores={name: value[run] for name, value in scores.items()})
                score, record["dev"] = selection_score(dev, config.select_by)
                if progress.rank(score, config.average_top):
                    course.kept[run][step] = self.stack.state(place, run)
                course.kept[run] = {kept: course.kept[run][kept] for _, kept in progress.best}
            progress.history.append(record)
            progress.finished = step == feed.last or progress.looks_since_best >= config.patience
            if progress.finished and not feed.dev:
                course.kept[run] = {step: self.stack.state(place, run)}

    def _dev_scores(self, place: int, course: _Course) -> dict[str, np.ndarray]:
        """{task: (R, N, C)} of the dev utterances."""
        pieces = [
            task_scores(self.tasks, self.stack.logits(place, self.means.index_select(1, rows)))
            for rows in course.dev_rows.split(512)
        ]
        return {task.name: np.concatenate([piece[task.name] for piece in pieces], 1) for task in self.tasks}

    def _end(self, place: int, run: int) -> Trained:
        """Load the weights that were kept into the training's module."""
        course, module = self.courses[place], self.modules[place][run]
        progress, kept = course.progress[run], course.kept[run]
        module.load_state_dict(average_weights(list(kept.values())))
        score, step = progress.best[0] if progress.best else (None, progress.step)
        return Trained(step, score, progress.history)


def _factor(config: RunConfig, step: int, total: int) -> float:
    return rate_factor(step, total, config.warmup, config.schedule)


def _blank(tasks: tuple[Task, ...], utterances: Sequence[Utterance]) -> Predictions:
    """Predictions of the utterances without any scores yet."""
    return Predictions(
        tasks=tuple(scored_task(task) for task in tasks),
        ids=[item.id for item in utterances],
        folds=[""] * len(utterances),
        speakers=[item.speaker for item in utterances],
        genders=[item.gender for item in utterances],
        scores={task.name: np.zeros((len(utterances), task.num_outputs), np.float32) for task in tasks},
        targets={task.name: scored_targets(task, utterances) for task in tasks},
    )
