"""One training: batches of hidden states or audio in, the downstream with the best dev score out."""

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
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils.memory import should_reduce_batch_size
from safetensors.torch import load_file
from torch import Tensor, nn

from undertone.common.interrupt import Interrupt, interruptible
from undertone.downstream.head import HeadOutput
from undertone.downstream.ladder import statistics_kept
from undertone.downstream.network import Downstream, LiveModel, load_trained_state
from undertone.downstream.task import Task
from undertone.scoring.predictions import Predictions
from undertone.training.checkpoint import Progress, average_weights, load_checkpoint, save_checkpoint, save_weights
from undertone.training.config import RunConfig
from undertone.training.objective import BatchTotals, Objective
from undertone.training.prediction_loop import predict_and_embed, selection_score
from undertone.training.seeding import chunks, epoch_batches, seed_everything, utterance_keys
from undertone.training.sources import Source
from undertone.training.unlabelled import UnlabelledStream
from undertone.upstream.dropout import UtteranceDropout
from undertone.upstream.execution import too_little
from undertone.upstream.precision import check_precision, safe_convolutions

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance
    from undertone.training.augmenter import Augmenter


# ---- The learning rate as a function of the step.


def rate_factor(config: RunConfig, step: int, total: int) -> float:
    """The factor in 0..1 of the peak rate at update `step` (0-based) of `total`.

    It rises linearly over the first `warmup` fraction of the steps, then falls to 0 by `schedule`, or stays constant.
    """
    rising = math.ceil(config.warmup * total)
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, total - rising)
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return max(0.0, 1 - done)


# ---- Updates whose loss or gradient is NaN or infinite: recorded and skipped.

FILE = "not_finite.jsonl"


class NotFiniteError(ValueError):
    """A training reached an update that is not finite, and not_finite=stop."""


def note_not_finite(folder: Path, step: int, loss: float, norm: float, ids: Sequence[str], write: bool = True) -> str:
    """A sentence about an update that is not finite; `write` adds its utterances to folder/not_finite.jsonl."""
    if write:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE).open("a", encoding="utf-8") as file:
            entry = {"step": step, "loss": str(loss), "gradient_norm": str(norm), "ids": list(ids)}
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return (
        f"Update {step} is not finite: loss {loss}, gradient norm {norm}. It was not applied; its {len(ids)} "
        f"utterances are in {folder / FILE}. Lower the learning rate, check these files, or skip such updates: "
        "not_finite=skip."
    )


# ---- Memory that the C library keeps between updates.

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Reuse the memory that one update frees in the next one, instead of returning it to the system (Linux, glibc).

    Every update allocates and frees tensors of tens of megabytes. By default glibc returns such memory at once, and the
    system hands it out again page by page, zeroed: a quarter of the time of the attention head's update on frames. The
    setting holds for the whole process, which keeps its peak memory.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(MMAP_THRESHOLD, 2**30)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)


# ---- One training.

logger = logging.getLogger(__name__)

DEV_PART = "the dev part of each fold"
Follow = Callable[[int, int, float | None], None]  # updates done, updates in all, best dev score so far


@dataclass(frozen=True)
class Trained:
    """The outcome of a training."""

    best_step: int  # updates before the weights that were kept
    best_score: float | None  # their dev score; None without dev
    history: list[dict[str, Any]]  # a record of every evaluation on dev
    micro_batches: int = 1  # how many a batch was split into at the end
    # {setting: {task: value}} where each task has its own choice
    chosen: dict[str, dict[str, Any]] = field(default_factory=dict)
    chosen_by: str = DEV_PART  # what the dev score was measured on
    calibration: dict[str, dict[str, Any]] = field(default_factory=dict)  # of a fitted head, from what it was scored on
    streams: dict[str, dict[str, Any]] = field(default_factory=dict)  # what each gave, of the head `average`


@dataclass(frozen=True)
class _Part:
    """A process' part of a micro-batch."""

    micro_batch: list[Utterance]  # over all processes
    own: list[Utterance]  # of this process; may be empty
    step: int  # updates done before
    number: int  # among the parts of all micro-batches and processes


class Trainer:
    """Trains a module on one fold, on one process or many.

    Args:
        source: utterances -> a batch for the module.
        module: a `Downstream` on stored hidden states, or a `LiveModel` on audio; its weights are initialised.
        folder: where checkpoints and the best weights go.
        follow: called after every update.
        augmenter: makes the training batches in place of the source; None: nothing is augmented.
        unlabelled: further input of a module with a ladder or a mean teacher; None: nothing.
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
        if self.module.upstream is not None:
            check_precision(self.module.upstream.eval(), accelerator.device, config.mixed_precision)
        self.micro_batches = config.accumulation

    def fit(
        self, train: Sequence[Utterance], dev: Sequence[Utterance], total: int, stop_at: int | None = None
    ) -> Trained:
        """Train for `total` updates or until dev stops improving (`patience`); then load the best weights.

        Resumes from the newest checkpoint in the folder, bit for bit, if there is one. Without dev utterances the last
        weights are kept. `stop_at` ends it before the `total` updates of the schedule.
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
            return Trained(progress.step, None, progress.history, self.micro_batches)
        best = [load_file(self._kept(step)) for _, step in progress.best]
        load_trained_state(self.module, average_weights(best))
        return Trained(progress.best[0][1], progress.best[0][0], progress.history, self.micro_batches)

    def _epoch(
        self,
        progress: Progress,
        train: Sequence[Utterance],
        dev: Sequence[Utterance],
        total: int,
        last: int,
        interrupt: Interrupt,
    ) -> None:
        """Train the rest of the current epoch, or until the training ends."""
        config, ids, durations = self.config, [item.id for item in train], [item.duration for item in train]
        corpora = [item.corpus for item in train] if config.sampling == "balanced" else None
        jitter = min(self.source.jitter, self.module.downstream.head.jitter)
        batches = epoch_batches(ids, durations, config.batch_size, config.seed, progress.epoch, jitter, corpora)
        for batch in batches[progress.position :]:
            loss = self._update([train[index] for index in batch], progress.step, total)
            progress.losses += [loss] if math.isfinite(loss) else []
            progress.step, progress.position = progress.step + 1, progress.position + 1
            self.follow(progress.step, last, progress.best[0][0] if progress.best else None)
            end_of_epoch = progress.position == len(batches)
            if end_of_epoch:
                progress.epoch, progress.position = progress.epoch + 1, 0
            if is_evaluation_due(config, progress.step, last, end_of_epoch):
                self._evaluate(progress, dev, total)
            if interrupt.asked:
                if self.accelerator.num_processes == 1:  # of several, the others may be at another update
                    self._checkpoint(progress)
                raise KeyboardInterrupt
            if progress.step == last or progress.finished:
                break

    def _make_objective(self, train: Sequence[Utterance]) -> Objective:
        """The loss on these utterances; its parameters join the optimiser, without weight decay."""
        downstream = self.module.downstream
        objective = Objective(self.config, self.tasks, train, downstream.embedding_size(), self.accelerator)
        if weights := list(objective.parameters()):
            rate = self.config.learning_rate
            self.optimizer.add_param_group({"params": weights, "lr": rate, "initial_lr": rate, "weight_decay": 0.0})
        return objective

    def _kept(self, step: int) -> Path:
        return self.folder / "best" / f"step-{step:09d}.safetensors"

    def _evaluate(self, progress: Progress, dev: Sequence[Utterance], total: int) -> None:
        """Score dev, keep the weights if they are among the `average_top` best so far, write a checkpoint."""
        record: dict[str, Any] = {
            "step": progress.step,
            "epoch": progress.epoch,
            "lr": self.config.learning_rate * rate_factor(self.config, progress.step - 1, total),
            "train_loss": sum(progress.losses) / len(progress.losses) if progress.losses else None,
        }
        progress.losses = []
        if dev:
            score, record["dev"] = selection_score(self.predict(dev), self.config.select_by)
            if progress.rank(score, self.config.average_top):
                self._on_main(lambda: save_weights(self.module, self._kept(progress.step)))
            progress.finished = progress.evaluations_since_best >= self.config.patience
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

    def _update(self, batch: list[Utterance], step: int, total: int) -> float:
        """One update, in smaller micro-batches from now on if memory runs out; returns its loss."""
        try:
            with safe_convolutions(self.accelerator.device, self.accelerator.mixed_precision):
                return self._try_update(batch, step, total)
        except Exception as error:
            if not isinstance(error, RuntimeError) or not should_reduce_batch_size(error):
                raise
            if self.micro_batches >= len(batch) or self.accelerator.num_processes > 1:
                size = -(-len(batch) // self.micro_batches)
                raise too_little(f"a micro-batch of {size} in update {step}", error) from error
        self.optimizer.zero_grad(set_to_none=True)
        self.micro_batches *= 2
        logger.warning(
            "Out of memory: from update %d on, a batch is split into %d micro-batches.", step, self.micro_batches
        )
        return self._update(batch, step, total)

    def _try_update(self, batch: list[Utterance], step: int, total: int) -> float:
        """One update on a global batch; returns its loss, averaged over the labelled utterances of the whole batch."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate_factor(self.config, step, total)
        totals = self.objective.measure(batch, step / total)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        micro_batches = chunks(batch, -(-len(batch) // self.micro_batches))
        parts = [_Part(some, some[rank::world], step, i * world + rank) for i, some in enumerate(micro_batches)]
        measured = self._totals_of_parts(totals, parts)
        self.optimizer.zero_grad()
        value = 0.0
        for number, (part, known) in enumerate(zip(parts, measured, strict=True)):
            last = number + 1 == len(parts)
            with (
                nullcontext() if last else self.accelerator.no_sync(self.model),
                self._output(part) as (output, weight),
            ):
                loss = self._loss(known, output, weight, part)
                self.accelerator.backward(loss * world)  # DDP averages the processes' gradients; we want their sum
            value += float(loss.detach())
        self.objective.average_gradients()
        norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_norm))
        value = float(self.accelerator.reduce(torch.tensor(value, device=self.accelerator.device), "sum"))
        scaled = self.accelerator.mixed_precision == "fp16"  # there the scaler skips overflows itself
        if math.isfinite(value) and (math.isfinite(norm) or scaled):
            self.optimizer.step()
            self.objective.clamp()
            self.module.downstream.after_update((step + 1) / total)
            return value
        ids, is_main = [item.id for item in batch], self.accelerator.is_main_process
        sentence = note_not_finite(self.folder, step, value, norm, ids, write=is_main)
        self.accelerator.wait_for_everyone()
        if self.config.not_finite == "stop":
            raise NotFiniteError(sentence)
        return value

    def _totals_of_parts(self, totals: BatchTotals, parts: Sequence[_Part]) -> list[tuple[BatchTotals, BatchTotals]]:
        """The totals for each part: with its own targets, and with those of mixup's partners.

        CCC is not a sum over utterances: with several parts, a first pass with the same dropout and noise finds the
        predictions of all of them.
        """
        if len(parts) == 1 or not self.objective.concordant:
            return [(totals, totals) for _ in parts]
        predictions = []
        with torch.no_grad(), statistics_kept(self.module):
            for part in parts:
                with self._output(part) as (output, _):
                    predictions.append(self.objective.predictions(output, part.own))
        found = self.objective.with_slopes(totals, predictions, [part.own for part in parts])
        if self.augmenter is None or not self.config.augment.mixup:
            return [(known, known) for known in found]
        partners = [self.augmenter.partners(part.own) for part in parts]
        return list(zip(found, self.objective.with_slopes(totals, predictions, partners), strict=True))

    @contextmanager
    def _output(self, part: _Part) -> Iterator[tuple[HeadOutput, float]]:
        """The model's output for a part, and mixup's weight of the utterances themselves (see `Augmenter`).

        All randomness depends on seed, step and utterance.
        """
        labelled = part.own or part.micro_batch[:1]  # one that counts for nothing, so that this process takes part
        unlabelled: list[Utterance] = []
        if self.unlabelled is not None:
            unlabelled = self.unlabelled(part.step, part.number, self.micro_batches * self.accelerator.num_processes)
        seed_everything(self.config.seed, "step", part.step)
        batch, weight = (self.source(labelled), 1.0) if self.augmenter is None else self.augmenter(labelled, part.step)
        batches = [batch, self.source(unlabelled)] if unlabelled else [batch]
        with UtteranceDropout(*(utterance_keys(some) for some in (labelled, unlabelled))):
            yield self.model(*(one.to(self.accelerator.device) for one in batches)), weight

    def _loss(self, known: tuple[BatchTotals, BatchTotals], output: HeadOutput, weight: float, part: _Part) -> Tensor:
        """This part's contribution to the loss; of a mixed batch, the weighted sum of both targets' losses."""
        loss: Tensor = self.objective(known[0], output, part.own, part.micro_batch)
        if self.augmenter is None or weight == 1:
            return loss
        partners = self.objective(known[1], output, self.augmenter.partners(part.own), part.micro_batch)
        return weight * loss + (1 - weight) * partners

    def predict(self, utterances: Sequence[Utterance], fold: str = "") -> Predictions:
        """Score utterances with the current weights; several processes score each exactly once."""
        settings = self.accelerator, self.config.batch_size, fold
        with safe_convolutions(self.accelerator.device, self.accelerator.mixed_precision):
            return predict_and_embed(self.module, self.tasks, self.source, utterances, *settings)[0]


def make_optimizer(config: RunConfig, module: Downstream | LiveModel) -> torch.optim.AdamW:
    """AdamW on all trainable weights; the layer sums, with a fusion's gate, and each upstream have separate rates.

    The logits of a layer sum need a rate about a hundred times the head's: Adam moves a logit by at most the sum of
    the rates, and layer weights differ clearly only once logits differ by several units (`docs/layers.md`). Weight
    decay would pull them back to equal weights.
    """
    downstream, rate = module.downstream, config.layer_sum_learning_rate
    mixing = [] if rate is None else [weight for weight in downstream.mixing_weights() if weight.requires_grad]
    trainable = [weight for weight in downstream.parameters() if weight.requires_grad]
    head = [weight for weight in trainable if not any(weight is one for one in mixing)]
    groups = [(head, config.learning_rate, config.weight_decay)]
    if rate is not None and mixing:
        groups.append((mixing, rate, 0.0))
    if module.upstream is not None:
        for name, own in config.of_streams().items():
            upstream = [weight for weight in module.upstream.streams[name].parameters() if weight.requires_grad]
            groups += [(upstream, own.upstream_learning_rate, config.weight_decay)] if upstream else []
    parameters = [
        {"params": weights, "lr": rate, "initial_lr": rate, "weight_decay": decay} for weights, rate, decay in groups
    ]
    return torch.optim.AdamW(parameters, fused=True)


def total_steps(config: RunConfig, num_utterances: int) -> int:
    """Updates of a training on `num_utterances`."""
    return config.max_steps or config.max_epochs * -(-num_utterances // config.batch_size)


def is_evaluation_due(config: RunConfig, step: int, last: int, end_of_epoch: bool) -> bool:
    """Whether dev is scored after `step` updates."""
    return step == last or (step % config.eval_every == 0 if config.eval_every else end_of_epoch)


def flatten_record(record: dict[str, Any]) -> dict[str, float]:
    """A history record as the flat `dev/task/metric` scalars that a tracker takes."""
    flat = {key: value for key, value in record.items() if isinstance(value, int | float)}
    for task, metrics in record.get("dev", {}).items():
        flat |= {f"dev/{task}/{metric}": value for metric, value in metrics.items() if value is not None}
    return flat
