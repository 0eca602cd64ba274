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

from undertone.downstream.losses import LossOptions
from undertone.downstream.network import Downstream
from undertone.downstream.task import Task
from undertone.training.checkpoint import Progress, average_weights
from undertone.training.config import RunConfig
from undertone.training.objective import balanced
from undertone.training.prediction_loop import make_predictions, selection_score, task_scores
from undertone.training.seeding import epoch_batches
from undertone.training.sources import StoreSource
from undertone.training.stack.linear_stack import LinearStack
from undertone.training.targets import scored_targets, targets
from undertone.training.trainer import (
    NotFiniteError,
    Trained,
    is_evaluation_due,
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
"""Settings in which the trainings of a group may differ: they change neither its batches nor how a gradient is made.

One layer alone is a layer sum whose logits are 0 and minus infinity: their gradient is exactly 0, and they stay.
"""


@dataclass(frozen=True)
class TrainingGroup:
    """The trainings that see the same batches: those of one fold with one seed."""

    name: str  # of the fold; the first weights depend on it and the seed
    train: Sequence[Utterance]  # utterances to learn from
    dev: Sequence[Utterance]  # utterances that select; empty: the last weights are kept
    configs: tuple[RunConfig, ...]  # of each training; they differ in `PER_RUN` alone
    total: int  # updates of the whole schedule
    folder: Path  # where an update that is not finite is written down
    stop_at: int | None = None  # stop after this many updates; None: when the schedule ends

    @property
    def last(self) -> int:
        """Updates until it stops, if patience does not end it."""
        return min(self.total, self.stop_at or self.total)


class _RunningGroup:
    """What a group's trainings do over time: the endless stream of its batches, and where each training stands."""

    def __init__(
        self, group: TrainingGroup, tasks: tuple[Task, ...], rows: dict[str, int], device: torch.device
    ) -> None:
        self.group, self.config = group, group.configs[0]
        self.progress = [Progress() for _ in group.configs]
        self.kept: list[dict[int, dict[str, Tensor]]] = [{} for _ in group.configs]  # step -> weights
        # One row more than utterances stands for padding: its targets are missing.
        padded = [*group.train, group.train[0]]
        self.rows = torch.tensor([rows[item.id] for item in padded], device=device)
        self.truth = {task.name: torch.from_numpy(targets(task, padded)) for task in tasks}
        for value in self.truth.values():
            value[-1] = torch.nan if value.is_floating_point() else -1
        self.truth = {name: value.to(device) for name, value in self.truth.items()}
        self.dev_rows = torch.tensor([rows[item.id] for item in group.dev], dtype=torch.int64, device=device)
        blank = {task.name: np.zeros((len(group.dev), task.num_outputs), np.float32) for task in tasks}
        truth = {task.name: scored_targets(task, group.dev) for task in tasks}
        self.dev = make_predictions(tasks, group.dev, blank, truth)
        self.evaluated = 0  # step of the last evaluation
        self.batches = self._batches(device)

    def _batches(self, device: torch.device) -> Iterator[tuple[Tensor, int, int, bool]]:
        """Positions (B,) in the padded utterances, how many are no padding, the epoch, and whether it ends here."""
        ids, durations = [item.id for item in self.group.train], [item.duration for item in self.group.train]
        size, balances = self.config.batch_size, self.config.sampling == "balanced"
        corpora = [item.corpus for item in self.group.train] if balances else None
        for epoch in count():
            batches = epoch_batches(ids, durations, size, self.config.seed, epoch, StoreSource.jitter, corpora)
            table = torch.tensor([batch + [len(ids)] * (size - len(batch)) for batch in batches], device=device)
            for place, batch in enumerate(batches, 1):
                yield table[place - 1], len(batch), epoch, place == len(batches)


class StackedTrainer:
    """Trains several groups side by side; what `Trainer` gives one by one, but for rounding.

    In float32 that is 1e-5 and better up to rates of 1e-3; the layer sum's logits, at 0.1, differ by a few 1e-5.

    Args:
        groups: as many trainings each.
        tasks: what is predicted.
        means: (L, N, D), on the device to compute on.
        rows: utterance id -> row of `means`.
        modules: the untrained downstream of each group's trainings; they end with the best weights.
    """

    def __init__(
        self,
        groups: Sequence[TrainingGroup],
        tasks: tuple[Task, ...],
        means: Tensor,
        rows: dict[str, int],
        modules: Sequence[Sequence[Downstream]],
    ) -> None:
        self.groups, self.tasks, self.means, self.modules = groups, tasks, means, modules
        self.running = [_RunningGroup(group, tasks, rows, means.device) for group in groups]
        config = groups[0].configs[0]
        options = LossOptions(config.label_smoothing, config.focal_gamma, config.regression_loss)
        class_weights = {
            task.name: torch.stack([balanced(task, group.train) for group in groups]).to(means.device)
            for task in tasks
            if task.has_classes and config.class_weights == "balanced"
        }
        self.stack = LinearStack(modules, tasks, options, class_weights)
        self.optimizer = self._make_optimizer()
        largest = [[config.clip_norm for config in group.configs] for group in groups]
        self.largest_norms = torch.tensor(largest, device=means.device, dtype=means.dtype)  # (G, R)
        self.drawn = means.new_empty(means.shape[0], len(groups) * config.batch_size, means.shape[2])  # (L, G B, D)
        self.losses = torch.zeros(len(groups), len(groups[0].configs), device=means.device)  # since the last evaluation

    def _make_optimizer(self) -> torch.optim.AdamW:
        """AdamW as `make_optimizer` has it, on views of the stacked weights: what is alike goes in one step."""
        alike: dict[tuple[Any, ...], dict[str, Any]] = {}
        for place, group in enumerate(self.groups):
            for run, config in enumerate(group.configs):
                head = self.stack.num_layers if config.layer_sum_learning_rate is not None else 0
                parts: list[tuple[slice, float | None, float]] = [
                    (slice(head, None), config.learning_rate, config.weight_decay)
                ]
                if head:
                    parts.append((slice(head), config.layer_sum_learning_rate, 0.0))
                for part, rate, decay in parts:
                    weights = self.stack.flat_weights[place, run, part]
                    weights.grad = self.stack.flat_gradients[place, run, part]
                    key = (rate, decay, group.total, config.schedule, config.warmup)
                    settings: dict[str, Any] = {"params": [], "initial_lr": rate, "weight_decay": decay}
                    alike.setdefault(key, settings | {"total": group.total, "config": config})["params"].append(weights)
        return torch.optim.AdamW(list(alike.values()), fused=True)

    def fit(self, follow: Callable[[int], None] = lambda done: None) -> list[list[Trained]]:
        """Train until every training has done its steps or dev has not improved for `patience` evaluations.

        Gives the outcome of each group's trainings, whose modules then hold the best weights; `follow` is called after
        every update of the stack.
        """
        step = 0
        while not all(progress.finished for running in self.running for progress in running.progress):
            drawn = [next(running.batches) for running in self.running]
            self._update(step, drawn)
            step += 1
            for place, (running, (_, _, epoch, end)) in enumerate(zip(self.running, drawn, strict=True)):
                if step <= running.group.last and is_evaluation_due(running.config, step, running.group.last, end):
                    self._evaluate(place, running, step, epoch + end)
            follow(sum(min(step, group.last) * len(group.configs) for group in self.groups))
        return [[self._end(place, run) for run in range(len(group.configs))] for place, group in enumerate(self.groups)]

    def _update(self, step: int, drawn: Sequence[tuple[Tensor, int, int, bool]]) -> None:
        """One update of all trainings."""
        rows = torch.cat([running.rows[draw[0]] for running, draw in zip(self.running, drawn, strict=True)])  # (G B,)
        truth = {
            task.name: torch.stack(
                [running.truth[task.name][draw[0]] for running, draw in zip(self.running, drawn, strict=True)]
            )
            for task in self.tasks
        }
        states = torch.index_select(self.means, 1, rows, out=self.drawn).unflatten(1, (len(self.groups), -1))
        losses, norms = self.stack.backward(states, truth, self.largest_norms)
        broken = ~torch.isfinite(losses + norms)  # (G, R)
        if broken.any():  # stop before the update is taken, at the first such training
            place, run = broken.nonzero()[0].tolist()
            group, (positions, size, *_) = self.groups[place], drawn[place]
            ids = [group.train[position].id for position in positions[:size].tolist()]
            sentence = note_not_finite(group.folder, step, float(losses[place, run]), float(norms[place, run]), ids)
            raise NotFiniteError(sentence)
        self.losses += losses
        for settings in self.optimizer.param_groups:
            settings["lr"] = settings["initial_lr"] * rate_factor(settings["config"], step, settings["total"])
        self.optimizer.step()

    def _evaluate(self, place: int, running: _RunningGroup, step: int, epoch: int) -> None:
        """Score dev with a group's trainings, and keep of each the weights that are among its best."""
        group = running.group
        losses = (self.losses[place] / (step - running.evaluated)).tolist()
        self.losses[place], running.evaluated = 0, step
        scores = self._dev_scores(place, running) if group.dev else {}
        for run, (config, progress) in enumerate(zip(group.configs, running.progress, strict=True)):
            if progress.finished:
                continue
            progress.step, progress.epoch = step, epoch
            rate = config.learning_rate * rate_factor(config, step - 1, group.total)
            record: dict[str, Any] = {"step": step, "epoch": epoch, "lr": rate, "train_loss": losses[run]}
            if group.dev:
                dev = replace(running.dev, scores={name: value[run] for name, value in scores.items()})
                score, record["dev"] = selection_score(dev, config.select_by)
                if progress.rank(score, config.average_top):
                    running.kept[run][step] = self.stack.state(place, run)
                running.kept[run] = {kept: running.kept[run][kept] for _, kept in progress.best}
            progress.history.append(record)
            progress.finished = step == group.last or progress.evaluations_since_best >= config.patience
            if progress.finished and not group.dev:
                running.kept[run] = {step: self.stack.state(place, run)}

    def _dev_scores(self, place: int, running: _RunningGroup) -> dict[str, np.ndarray]:
        """{task: (R, N, C)} of the dev utterances."""
        scores = [
            task_scores(self.tasks, self.stack.logits(place, self.means.index_select(1, rows)))
            for rows in running.dev_rows.split(512)
        ]
        return {task.name: np.concatenate([part[task.name] for part in scores], 1) for task in self.tasks}

    def _end(self, place: int, run: int) -> Trained:
        """Load the weights that were kept into the training's module."""
        progress, kept = self.running[place].progress[run], self.running[place].kept[run]
        self.modules[place][run].load_state_dict(average_weights(list(kept.values())))
        score, step = progress.best[0] if progress.best else (None, progress.step)
        return Trained(step, score, progress.history)
