"""One training: hidden states in, the downstream with the best dev score out."""

from __future__ import annotations

import ctypes
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils.memory import should_reduce_batch_size
from safetensors.torch import load_file
from torch import Tensor, nn

from undertone.common.interrupt import Interrupt, interruptible
from undertone.downstream.dropout import UtteranceDropout
from undertone.downstream.head import HeadOutput
from undertone.downstream.ladder import statistics_kept
from undertone.downstream.network import Downstream, LiveModel, load_trained_state
from undertone.downstream.task import Task
from undertone.scoring.predictions import Predictions
from undertone.training.checkpoint import Progress, average_weights, load_checkpoint, save_checkpoint, save_weights
from undertone.training.config import RunConfig
from undertone.training.objective import Global, Objective
from undertone.training.prediction_loop import predict, selection_score
from undertone.training.seeding import chunks, epoch_batches, seed_everything, utterance_keys
from undertone.training.sources import Source
from undertone.training.unlabelled import UnlabelledStream
from undertone.upstream.execution import too_little
from undertone.upstream.precision import check_precision, exact_convolutions

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance
    from undertone.training.augmenter import Augmenter


# ---- The learning rate as a function of the step.


def rate_factor(step: int, total: int, warmup: float, schedule: Literal["linear", "cosine", "constant"]) -> float:
    """The factor in 0..1 of the peak rate at update `step` (0-based) of `total`.

    It rises linearly over the first `warmup` share of the steps, then falls to 0 by `schedule` (or stays, `constant`).
    """
    rising = math.ceil(warmup * total)
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, total - rising)
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return max(0.0, 1 - done)


# ---- Updates whose loss or gradient is NaN or infinite: named, written down, and never taken.

FILE = "not_finite.jsonl"


class NotFiniteError(ValueError):
    """A training came to an update that is not finite, and was told to stop there."""


def note_not_finite(folder: Path, step: int, loss: float, norm: float, ids: Sequence[str]) -> None:
    """Add a line to `folder/not_finite.jsonl`: the update, its loss and gradient norm, and its utterances."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a", encoding="utf-8") as file:
        entry = {"step": step, "loss": str(loss), "gradient_norm": str(norm), "ids": list(ids)}
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def not_finite_sentence(folder: Path, step: int, loss: float, norm: float, count: int) -> str:
    """What happened, where the utterances are listed, and what to do."""
    return (
        f"Update {step} is not finite: loss {loss}, gradient norm {norm}. It was not taken; its {count} utterances are "
        f"in {folder / FILE}. Lower the learning rate, look at these files, or leave such updates out: not_finite=skip."
    )


# ---- How the C library keeps the memory that updates take and free.

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let what one update frees serve the next one, instead of going back to the system: on Linux with glibc.

    Every update takes and frees tensors of tens of megabytes. glibc returns such memory at once, and the system then
    hands it out again page by page, zeroed: a quarter of the time of the attention head's update on frames. It holds
    for the whole process, which keeps the memory that it needed most.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(MMAP_THRESHOLD, 2**30)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)


# ---- One training: hidden states in, the downstream with the best dev score out.

logger = logging.getLogger(__name__)

DEV_PART = "the dev part of each fold"
Follow = Callable[[int, int, float | None], None]  # updates done, updates in all, best dev score so far


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    Attributes:
        best_step: updates after which the weights were kept.
        best_score: their dev score; None without dev.
        history: a record of every evaluation on dev.
        micro_batches: in so many a batch went at the end.
        chosen: what was chosen for each task on its own, {setting: {task: value}}.
        chosen_by: on what the dev score was found.
    """

    best_step: int
    best_score: float | None
    history: list[dict[str, Any]]
    micro_batches: int = 1
    chosen: dict[str, dict[str, Any]] = field(default_factory=dict)
    chosen_by: str = DEV_PART


@dataclass(frozen=True)
class _Part:
    """A process' part of a micro-batch.

    Attributes:
        piece: the micro-batch, over all processes.
        own: this process' utterances of it; may be empty.
        step: updates done before.
        number: of the part, among those of all micro-batches and processes.
    """

    piece: list[Utterance]
    own: list[Utterance]
    step: int
    number: int


class Trainer:
    """Trains a module on one fold, on one process or many.

    Args:
        config: rates, batch size, when to stop.
        tasks: what is predicted.
        source: utterances -> the batch that the module takes.
        module: a `Downstream` fed from the store, or a `LiveModel` fed with sound; its weights already drawn.
        folder: where checkpoints and the best weights go.
        accelerator: devices and processes.
        follow: called after every update.
        augmenter: makes the training batches in place of the source; None: nothing is augmented.
        unlabelled: what a module with a ladder hears besides; None: nothing.
    """

    def __init__(
        self,
        config: RunConfig,
        tasks: tuple[Task, ...],
        source: Source,
        module: Downstream | LiveModel,
        folder: Path,
        accelerator: Accelerator,
        follow: Follow = lambda done, total, score: None,
        augmenter: Augmenter | None = None,
        unlabelled: UnlabelledStream | None = None,
    ) -> None:
        self.config, self.tasks, self.source, self.folder = config, tasks, source, folder
        self.accelerator, self.follow, self.augmenter, self.unlabelled = accelerator, follow, augmenter, unlabelled
        optimizer = make_optimizer(config, module.to(accelerator.device))
        self.model, self.optimizer = accelerator.prepare(module, optimizer)
        self.module: Downstream | LiveModel = accelerator.unwrap_model(self.model)
        if isinstance(self.module, LiveModel):
            check_precision(self.module.upstream.eval(), accelerator.device, config.mixed_precision)
        self.pieces = config.accumulation

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
        keep_freed_memory()
        self.objective = self._make_objective(train)
        self.state = nn.ModuleDict({"model": self.module, "objective": self.objective})
        progress = load_checkpoint(self.folder / "checkpoints", self.state, self.optimizer.optimizer)
        last = min(total, stop_at or total)
        with interruptible() as interrupt:
            while progress.step < last and not progress.finished:
                self._epoch(progress, train, dev, total, last, interrupt)
        if not progress.best:
            return Trained(progress.step, None, progress.history, self.pieces)
        best = [load_file(self._kept(step)) for _, step in progress.best]
        load_trained_state(self.module, average_weights(best))
        return Trained(progress.best[0][1], progress.best[0][0], progress.history, self.pieces)

    def _epoch(
        self,
        progress: Progress,
        train: Sequence[Utterance],
        dev: Sequence[Utterance],
        total: int,
        last: int,
        interrupt: Interrupt,
    ) -> None:
        """What is left of the pass that `progress` is in, as far as the training goes.

        Raises:
            KeyboardInterrupt: the user asked to stop; a checkpoint was written.
        """
        config, ids, durations = self.config, [item.id for item in train], [item.duration for item in train]
        batches = epoch_batches(ids, durations, config.batch_size, config.seed, progress.epoch, self.source.jitter)
        for batch in batches[progress.position :]:
            loss = self._update([train[index] for index in batch], progress.step, total)
            progress.losses += [loss] if math.isfinite(loss) else []
            progress.step, progress.position = progress.step + 1, progress.position + 1
            self.follow(progress.step, last, progress.best[0][0] if progress.best else None)
            end_of_epoch = progress.position == len(batches)
            if end_of_epoch:
                progress.epoch, progress.position = progress.epoch + 1, 0
            if is_look(config, progress.step, last, end_of_epoch):
                self._look(progress, dev, total)
            if interrupt.asked:
                self._leave(progress)
            if progress.step == last or progress.finished:
                break

    def _leave(self, progress: Progress) -> None:
        """Save, and end. One of several processes ends at once: the others may be at another update."""
        if self.accelerator.num_processes == 1:
            self._checkpoint(progress)
        raise KeyboardInterrupt

    def _make_objective(self, train: Sequence[Utterance]) -> Objective:
        """The loss on these utterances; what it learns itself joins the optimiser, without weight decay."""
        downstream = self.module.downstream if isinstance(self.module, LiveModel) else self.module
        objective = Objective(self.config, self.tasks, train, downstream.embedding_size(), self.accelerator)
        if weights := list(objective.parameters()):
            rate = self.config.learning_rate
            self.optimizer.add_param_group({"params": weights, "lr": rate, "initial_lr": rate, "weight_decay": 0.0})
        return objective

    def _kept(self, step: int) -> Path:
        return self.folder / "best" / f"step-{step:09d}.safetensors"

    def _look(self, progress: Progress, dev: Sequence[Utterance], total: int) -> None:
        """Score dev, keep the weights if they are among the `average_top` best so far, write a checkpoint."""
        record: dict[str, Any] = {
            "step": progress.step,
            "epoch": progress.epoch,
            "lr": self.config.learning_rate * self._factor(progress.step - 1, total),
            "train_loss": sum(progress.losses) / len(progress.losses) if progress.losses else None,
        }
        progress.losses = []
        if dev:
            score, record["dev"] = selection_score(self.predict(dev), self.config.select_by)
            if progress.rank(score, self.config.average_top):
                self._on_main(lambda: save_weights(self.module, self._kept(progress.step)))
            progress.finished = progress.looks_since_best >= self.config.patience
        progress.history.append(record)
        self.accelerator.log(flatten_record(record), step=progress.step)
        self._checkpoint(progress)
        if self.accelerator.is_main_process:
            for path in set((self.folder / "best").glob("step-*")) - {self._kept(step) for _, step in progress.best}:
                path.unlink()

    def _checkpoint(self, progress: Progress) -> None:
        checkpoints = self.folder / "checkpoints"
        self._on_main(lambda: save_checkpoint(checkpoints, self.state, self.optimizer.optimizer, progress))

    def _on_main(self, write: Callable[[], None]) -> None:
        if self.accelerator.is_main_process:
            write()
        self.accelerator.wait_for_everyone()

    def _factor(self, step: int, total: int) -> float:
        return rate_factor(step, total, self.config.warmup, self.config.schedule)

    def _update(self, batch: list[Utterance], step: int, total: int) -> float:
        """One update, in smaller micro-batches from now on if the memory does not hold these; returns its loss."""
        try:
            with exact_convolutions(self.accelerator.device, self.config.mixed_precision):
                return self._try_update(batch, step, total)
        except Exception as error:
            if not isinstance(error, RuntimeError) or not should_reduce_batch_size(error):
                raise
            if self.pieces >= len(batch) or self.accelerator.num_processes > 1:
                size = -(-len(batch) // self.pieces)
                raise too_little(f"a micro-batch of {size} in update {step}", error) from error
        self.optimizer.zero_grad(set_to_none=True)
        self.pieces *= 2
        logger.warning("Out of memory: from update %d on a batch goes in %d micro-batches.", step, self.pieces)
        return self._update(batch, step, total)

    def _try_update(self, batch: list[Utterance], step: int, total: int) -> float:
        """One update on a global batch; returns its loss, averaged over the labelled utterances of the whole batch."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self._factor(step, total)
        whole = self.objective.measure(batch, step / total)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        pieces = chunks(batch, -(-len(batch) // self.pieces))
        parts = [_Part(piece, piece[rank::world], step, number * world + rank) for number, piece in enumerate(pieces)]
        measured = self._measured(whole, parts)
        self.optimizer.zero_grad()
        value = 0.0
        for number, (part, known) in enumerate(zip(parts, measured, strict=True)):
            last = number + 1 == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.model), self._output(part) as (output, share):
                loss = self._loss(known, output, share, part)
                self.accelerator.backward(loss * world)  # DDP averages the processes' gradients; we want their sum
            value += float(loss.detach())
        self.objective.average_gradients()
        norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_norm))
        value = float(self.accelerator.reduce(torch.tensor(value, device=self.accelerator.device), "sum"))
        scaled = self.config.mixed_precision == "fp16"  # where the scaler skips by itself what overflows
        if math.isfinite(value) and (math.isfinite(norm) or scaled):
            self.optimizer.step()
            self.objective.settle()
            return value
        self._on_main(lambda: note_not_finite(self.folder, step, value, norm, [item.id for item in batch]))
        if self.config.not_finite == "stop":
            raise NotFiniteError(not_finite_sentence(self.folder, step, value, norm, len(batch)))
        return value

    def _measured(self, whole: Global, parts: Sequence[_Part]) -> list[tuple[Global, Global]]:
        """What each part must know of the global batch: with its own targets, and with those of mixup's partners.

        CCC is no sum over utterances: in several parts, what all of them predict is found first, in a pass of its own
        with the same dropout and noise.
        """
        if len(parts) == 1 or not self.objective.concordant:
            return [(whole, whole) for _ in parts]
        predictions = []
        with torch.no_grad(), statistics_kept(self.module):
            for part in parts:
                with self._output(part) as (output, _):
                    predictions.append(self.objective.predictions(output, part.own))
        found = self.objective.with_slopes(whole, predictions, [part.own for part in parts])
        if self.augmenter is None or not self.config.augment.mixup:
            return [(known, known) for known in found]
        partners = [self.augmenter.partners(part.own) for part in parts]
        return list(zip(found, self.objective.with_slopes(whole, predictions, partners), strict=True))

    @contextmanager
    def _output(self, part: _Part) -> Iterator[tuple[HeadOutput, float]]:
        """What the model makes of a part, and the share of it that is the utterances themselves (see `Augmenter`).

        Whatever is random depends on seed, step and utterance.
        """
        heard = part.own or part.piece[:1]  # one that counts for nothing, so that this process takes part
        besides: list[Utterance] = []
        if self.unlabelled is not None:
            besides = self.unlabelled(part.step, part.number, self.pieces * self.accelerator.num_processes)
        seed_everything(self.config.seed, "step", part.step)
        batch, share = (self.source(heard), 1.0) if self.augmenter is None else self.augmenter(heard, part.step)
        batches = [batch, self.source(besides)] if besides else [batch]
        with UtteranceDropout(*(utterance_keys(some) for some in (heard, besides))):
            yield self.model(*(one.to(self.accelerator.device) for one in batches)), share

    def _loss(self, known: tuple[Global, Global], output: HeadOutput, share: float, part: _Part) -> Tensor:
        """This process' share of the loss; of a mixed batch, the shares of the losses of what was mixed."""
        loss: Tensor = self.objective(known[0], output, part.own, part.piece)
        if self.augmenter is None or share == 1:
            return loss
        partners = self.objective(known[1], output, self.augmenter.partners(part.own), part.piece)
        mixed: Tensor = share * loss + (1 - share) * partners
        return mixed

    def predict(self, utterances: Sequence[Utterance], fold: str = "") -> Predictions:
        """Score utterances with the present weights; over several processes each is scored exactly once."""
        size = self.config.batch_size
        with exact_convolutions(self.accelerator.device, self.config.mixed_precision):
            return predict(self.module, self.tasks, self.source, utterances, self.accelerator, size, fold)


def make_optimizer(config: RunConfig, module: Downstream | LiveModel) -> torch.optim.AdamW:
    """AdamW on what learns; the layer sum and an upstream's weights have rates of their own.

    The logits of the layer sum need a rate about a hundred times the head's: Adam moves a logit by no more than the sum
    of the rates, and weights are told apart only once logits differ by several units (`docs/layers.md`). Weight decay
    would pull them back to equal weights.
    """
    downstream = module.downstream if isinstance(module, LiveModel) else module
    logits = downstream.layer_sum.logits
    rate = config.layer_sum_learning_rate if logits.requires_grad else None
    learns = [weight for weight in downstream.parameters() if weight.requires_grad]
    head = [weight for weight in learns if rate is None or weight is not logits]
    groups = [(head, config.learning_rate, config.weight_decay)]
    if rate is not None:
        groups.append(([logits], rate, 0.0))
    if isinstance(module, LiveModel):
        upstream = [weight for weight in module.upstream.parameters() if weight.requires_grad]
        groups.append((upstream, config.upstream_learning_rate, config.weight_decay))
    parameters = [
        {"params": weights, "lr": rate, "initial_lr": rate, "weight_decay": decay} for weights, rate, decay in groups
    ]
    return torch.optim.AdamW(parameters, fused=True)


def total_steps(config: RunConfig, num_utterances: int) -> int:
    """Updates of a training on so many utterances."""
    return config.max_steps or config.max_epochs * -(-num_utterances // config.batch_size)


def is_look(config: RunConfig, step: int, last: int, end_of_epoch: bool) -> bool:
    """Whether dev is scored after this many updates."""
    return step == last or (step % config.eval_every == 0 if config.eval_every else end_of_epoch)


def flatten_record(record: dict[str, Any]) -> dict[str, float]:
    """A history record as the flat `dev/task/metric` scalars that a tracker takes."""
    flat = {key: value for key, value in record.items() if isinstance(value, int | float)}
    for task, metrics in record.get("dev", {}).items():
        flat |= {f"dev/{task}/{metric}": value for metric, value in metrics.items() if value is not None}
    return flat
