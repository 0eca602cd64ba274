"""One training: hidden states in, the downstream with the best dev score out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor

from undertone.downstream.downstream import Downstream
from undertone.downstream.head import HeadOutput
from undertone.downstream.losses import is_labelled, task_loss
from undertone.downstream.task import Task
from undertone.training.checkpoint import Progress, load_checkpoint, save_checkpoint, save_weights
from undertone.training.config import RunConfig
from undertone.training.feeding import Source
from undertone.training.order import chunks, epoch_batches, seed_everything
from undertone.training.predictions import Predictions
from undertone.training.schedule import rate_factor
from undertone.training.scoring import predict, selection_score
from undertone.training.targets import targets

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance

Follow = Callable[[int, int, float | None], None]  # updates done, updates in all, best dev score so far


@dataclass(frozen=True)
class Trained:
    """The outcome of a training: the step whose weights were kept, its dev score, and a record of every look at dev."""

    best_step: int
    best_score: float | None
    history: list[dict[str, Any]]


class Trainer:
    """Trains a downstream on the hidden states of one fold, on one process or many.

    Args:
        config: rates, batch size, when to stop.
        tasks: what is predicted; the first one selects.
        source: utterances -> hidden states.
        downstream: the module to train, its initial weights already drawn.
        folder: where checkpoints and the best weights go.
        accelerator: devices and processes.
        follow: called after every update.
    """

    def __init__(
        self,
        config: RunConfig,
        tasks: tuple[Task, ...],
        source: Source,
        downstream: Downstream,
        folder: Path,
        accelerator: Accelerator,
        follow: Follow = lambda done, total, score: None,
    ) -> None:
        self.config, self.tasks, self.source, self.folder = config, tasks, source, folder
        self.accelerator, self.follow = accelerator, follow
        optimizer = torch.optim.AdamW(
            downstream.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.model, self.optimizer = accelerator.prepare(downstream.to(accelerator.device), optimizer)
        self.downstream: Downstream = accelerator.unwrap_model(self.model)

    def fit(
        self, train: Sequence[Utterance], dev: Sequence[Utterance], total: int, stop_at: int | None = None
    ) -> Trained:
        """Train until the steps are done or dev has not improved for `patience` looks; then load the best weights.

        Continues from the newest checkpoint in the folder, bit for bit, where there is one.

        Args:
            train: utterances to learn from.
            dev: utterances that select; empty: the last weights are kept.
            total: updates of the whole schedule (`total_steps`).
            stop_at: stop after this many of them.
        """
        progress = load_checkpoint(self.folder / "checkpoints", self.downstream, self.optimizer.optimizer)
        ids, durations = [item.id for item in train], [item.duration for item in train]
        last = min(total, stop_at or total)
        losses: list[float] = []
        while progress.step < last and not progress.finished:
            batches = epoch_batches(ids, durations, self.config.batch_size, self.config.seed, progress.epoch)
            for batch in batches[progress.position :]:
                losses.append(self._update([train[index] for index in batch], progress.step, total))
                progress.step, progress.position = progress.step + 1, progress.position + 1
                self.follow(progress.step, last, progress.best_score)
                end_of_epoch = progress.position == len(batches)
                if end_of_epoch:
                    progress.epoch, progress.position = progress.epoch + 1, 0
                if self._is_look(progress.step, last, end_of_epoch):
                    self._look(progress, dev, total, losses)
                    losses = []
                if progress.step == last or progress.finished:
                    break
        if dev and progress.best_step:
            self.downstream.load_state_dict(load_file(self.folder / "best.safetensors"))
        return Trained(progress.best_step or progress.step, progress.best_score, progress.history)

    def _is_look(self, step: int, last: int, end_of_epoch: bool) -> bool:
        every = self.config.eval_every
        return step == last or (step % every == 0 if every else end_of_epoch)

    def _look(self, progress: Progress, dev: Sequence[Utterance], total: int, losses: list[float]) -> None:
        """Score dev, keep the weights if they are the best so far, write a checkpoint."""
        record: dict[str, Any] = {
            "step": progress.step,
            "epoch": progress.epoch,
            "lr": self._rate(progress.step - 1, total),
            "train_loss": sum(losses) / len(losses) if losses else None,
        }
        if dev:
            score, record["dev"] = selection_score(self.predict(dev), self.config.select_by)
            progress.looks_since_best += 1
            if progress.best_score is None or score > progress.best_score:
                progress.best_score, progress.best_step, progress.looks_since_best = score, progress.step, 0
                self._on_main(lambda: save_weights(self.downstream, self.folder / "best.safetensors"))
            progress.finished = progress.looks_since_best >= self.config.patience
        progress.history.append(record)
        self.accelerator.log(_flatten(record), step=progress.step)
        checkpoints = self.folder / "checkpoints"
        self._on_main(lambda: save_checkpoint(checkpoints, self.downstream, self.optimizer.optimizer, progress))

    def _on_main(self, write: Callable[[], None]) -> None:
        if self.accelerator.is_main_process:
            write()
        self.accelerator.wait_for_everyone()

    def _rate(self, step: int, total: int) -> float:
        return self.config.learning_rate * rate_factor(step, total, self.config.warmup, self.config.schedule)

    def _update(self, batch: list[Utterance], step: int, total: int) -> float:
        """One update on a global batch; returns its loss, averaged over the labelled utterances of the whole batch."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step, total)
        counts = {task.name: max(1, int(is_labelled(task, _tensor(task, batch)).sum())) for task in self.tasks}
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        pieces = chunks(batch, -(-len(batch) // self.config.accumulation))
        self.optimizer.zero_grad()
        value = 0.0
        for number, piece in enumerate(pieces):
            seed_everything(self.config.seed, "step", step, number, rank)
            own = piece[rank::world]
            with self.accelerator.no_sync(self.model) if number + 1 < len(pieces) else nullcontext():
                loss = self._loss(own, piece, counts, len(batch))
                self.accelerator.backward(loss * world)  # DDP averages the processes' gradients; we want their sum
            value += float(loss.detach())
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        return float(self.accelerator.reduce(torch.tensor(value, device=self.accelerator.device), "sum"))

    def _loss(self, own: list[Utterance], piece: list[Utterance], counts: dict[str, int], batch_size: int) -> Tensor:
        """This process's share of the loss of the global batch: sums divided by the global counts."""
        idle = not own  # the last, uneven piece: take part in the collectives with nothing labelled
        utterances = own or piece[:1]
        output: HeadOutput = self.model(self.source(utterances).to(self.accelerator.device))
        loss = output.embedding.sum() * 0.0
        for task in self.tasks:
            truth = _tensor(task, utterances).to(self.accelerator.device)
            if idle:
                truth = torch.full_like(truth, -1 if task.kind == "classification" else torch.nan)
            loss = loss + task.weight * task_loss(task, output.logits[task.name], truth)[0] / counts[task.name]
        for own_sum, own_count in output.losses.values():
            count = self.accelerator.reduce(own_count.detach().float(), "sum").clamp(min=1)
            loss = loss + own_sum / count * len(piece) / batch_size
        return loss

    def predict(self, utterances: Sequence[Utterance], fold: str = "") -> Predictions:
        """Score utterances with the present weights; over several processes each is scored exactly once."""
        return predict(
            self.downstream, self.tasks, self.source, utterances, self.accelerator, self.config.batch_size, fold
        )


def total_steps(config: RunConfig, num_utterances: int) -> int:
    """Updates of a training on so many utterances."""
    return config.max_steps or config.max_epochs * -(-num_utterances // config.batch_size)


def _tensor(task: Task, utterances: Sequence[Utterance]) -> Tensor:
    return torch.from_numpy(targets(task, utterances))


def _flatten(record: dict[str, Any]) -> dict[str, float]:
    """A history record as the flat `dev/task/metric` scalars that a tracker takes."""
    flat = {key: value for key, value in record.items() if isinstance(value, int | float)}
    for task, metrics in record.get("dev", {}).items():
        flat |= {f"dev/{task}/{metric}": value for metric, value in metrics.items() if value is not None}
    return flat
