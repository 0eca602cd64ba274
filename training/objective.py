"""The training objective: the tasks' losses, the head's own losses, and an adversary's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from undertone.downstream.head import HeadOutput
from undertone.downstream.losses import (
    Adversary,
    LossOptions,
    UncertaintyWeights,
    ccc_slopes,
    is_labelled,
    loss_count,
    reversal_strength,
    task_loss,
)
from undertone.downstream.task import Task
from undertone.training.config import RunConfig
from undertone.training.seeding import seed_everything
from undertone.training.targets import adversarial_tasks, annotation, at_annotations, targets

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance


@dataclass(frozen=True)
class BatchTotals:
    """What a loss must know of the whole batch (all processes, all micro-batches) beside its part of it."""

    counts: dict[str, float]  # {task: the count that its summed loss is divided by}; 0 where nothing is labelled
    size: int  # utterances
    progress: float  # fraction of the training's updates that are done
    # {task: derivatives (N,) of 1 - CCC with respect to the N predictions of a part, and that loss ()}, where the batch
    # is split: a part's CCC is not the batch's
    slopes: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


class Objective(nn.Module):
    """The loss of a training. Its parameters (task weights, an adversary) are not part of the model.

    Train them without weight decay. Only `train` decides class weights and the adversary's classes.
    """

    def __init__(
        self,
        config: RunConfig,  # which losses, and their options
        tasks: tuple[Task, ...],  # what the model predicts
        train: Sequence[Utterance],  # the training utterances
        embedding_size: int,  # E of the head
        accelerator: Accelerator,  # devices and processes
    ) -> None:
        super().__init__()
        self.tasks, self.accelerator = tasks, accelerator
        self.options = LossOptions(config.label_smoothing, config.focal_gamma, config.regression_loss)
        self.adversarial_weight = config.adversarial_weight
        self.adversarial_tasks = adversarial_tasks(config.adversarial, train)
        seed_everything(config.seed, "objective")
        self.adversary = Adversary(embedding_size, self.adversarial_tasks) if self.adversarial_tasks else None
        self.uncertainty = UncertaintyWeights(tasks) if config.task_weighting == "uncertainty" else None
        self.class_weights: dict[str, Tensor] = {}
        if config.class_weights == "balanced":
            weighted = [task for task in tasks if task.has_classes]
            self.class_weights = {task.name: balanced(task, train).to(accelerator.device) for task in weighted}
        self.to(accelerator.device)

    def measure(self, batch: Sequence[Utterance], progress: float) -> BatchTotals:
        """The totals of a global batch, at this fraction of the training."""
        counts = {
            task.name: float(loss_count(task, self._truth(task, batch), self.class_weights.get(task.name)))
            for task in (*self.tasks, *self.adversarial_tasks)
        }
        return BatchTotals(counts, len(batch), progress)

    def forward(
        self, totals: BatchTotals, output: HeadOutput, own: Sequence[Utterance], micro_batch: Sequence[Utterance]
    ) -> Tensor:
        """This part's contribution to the loss of the global batch; the contributions of all parts sum to it.

        Args:
            totals: of the global batch.
            output: of `own`; if that is empty, of the micro-batch's first utterance, which then counts for nothing and
                only takes part in the collectives.
            own: this process' utterances of the micro-batch.
            micro_batch: the micro-batch, over all processes.
        """
        embedding = output.embedding.float()
        loss = embedding.sum() * 0.0
        for task in self.tasks:
            if not task.weight and self.accelerator.num_processes == 1:  # DDP wants every weight in the graph
                continue
            part = self._part(task, totals, self._logits(task, output, own or micro_batch[:1]), own, micro_batch)
            if self.uncertainty is not None:
                fraction = len(own) / totals.size if totals.counts[task.name] else 0.0
                part = self.uncertainty(task, part, fraction)
            loss = loss + task.weight * part
        if self.adversary is not None:
            strength = reversal_strength(totals.progress, self.adversarial_weight)
            for name, logits in self.adversary(embedding, strength).items():
                task = next(task for task in self.adversarial_tasks if task.name == name)
                loss = loss + self._part(task, totals, logits, own, micro_batch)
        return loss + self._head_losses(output, own, micro_batch) * len(micro_batch) / totals.size

    @property
    def concordant(self) -> tuple[Task, ...]:
        """The tasks whose loss is 1 - CCC, which is not a sum over utterances."""
        ccc = self.options.regression == "ccc"
        return tuple(task for task in self.tasks if ccc and task.kind == "regression" and task.weight)

    def predictions(self, output: HeadOutput, own: Sequence[Utterance]) -> dict[str, Tensor]:
        """{task: (N,) values} of `concordant` for this process' utterances; none where it has none."""
        return {
            task.name: self._logits(task, output, own)[:, 0] if own else output.embedding.new_zeros(0).float()
            for task in self.concordant
        }

    def with_slopes(
        self, totals: BatchTotals, predictions: Sequence[Mapping[str, Tensor]], own: Sequence[Sequence[Utterance]]
    ) -> list[BatchTotals]:
        """The totals for each part, given the predictions of all parts; all processes must call it.

        Args:
            totals: of the global batch.
            predictions: of each part, from `predictions`.
            own: this process' utterances of each part, whose targets count.
        """
        parts: list[dict[str, tuple[Tensor, Tensor]]] = [{} for _ in own]
        for task in self.concordant:
            values = [part[task.name] for part in predictions]
            truth = [self._truth(task, part) if part else values[0].new_zeros(0) for part in own]
            slopes, loss = ccc_slopes(torch.cat(values), torch.cat(truth))
            for part, rows in zip(parts, slopes.split([len(rows) for rows in values]), strict=True):
                part[task.name] = rows, loss
        return [replace(totals, slopes=part) for part in parts]

    def _logits(self, task: Task, output: HeadOutput, utterances: Sequence[Utterance]) -> Tensor:
        """(N, C), as many as `_truth` has targets."""
        if task.level == "frame":
            return torch.cat(at_annotations(task, output, utterances))
        return output.logits[task.name].float()

    def _part(
        self,
        task: Task,
        totals: BatchTotals,
        logits: Tensor,
        own: Sequence[Utterance],
        micro_batch: Sequence[Utterance],
    ) -> Tensor:
        truth = self._truth(task, own or micro_batch[:1])
        if not own:
            truth = torch.full_like(truth, torch.nan if truth.is_floating_point() else -1)
        if task.name in totals.slopes:
            slopes, loss = totals.slopes[task.name]
            linear = (slopes * logits[:, 0]).sum() if own else logits.sum() * 0.0
            fraction = is_labelled(truth).sum() / (totals.counts[task.name] or 1.0)
            return loss * fraction + linear - linear.detach()
        total, _ = task_loss(task, logits, truth, self.options, self.class_weights.get(task.name))
        return total / (totals.counts[task.name] or 1.0)

    def _head_losses(self, output: HeadOutput, own: Sequence[Utterance], micro_batch: Sequence[Utterance]) -> Tensor:
        """The head's own losses, averaged over the micro-batch: this process' contribution."""
        loss = output.embedding.new_zeros((), dtype=torch.float32)
        for own_sum, own_count in output.losses.values():
            active = 1.0 if own else 0.0
            count = self.accelerator.reduce(own_count.detach().float() * active, "sum").clamp(min=1)
            loss = loss + active * own_sum / count
        return loss

    def _truth(self, task: Task, utterances: Sequence[Utterance]) -> Tensor:
        """The targets of all utterances; of a task of the level `frame`, those at all times of their annotations."""
        if task.level == "frame":
            values = [annotation(task, utterance)[1] for utterance in utterances]
            return torch.from_numpy(np.concatenate(values)).to(self.accelerator.device)
        return torch.from_numpy(targets(task, utterances)).to(self.accelerator.device)

    def average_gradients(self) -> None:
        """Average this module's gradients over the processes, as DDP does for the model."""
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")

    def clamp(self) -> None:
        """Put bounded parameters back into their bounds after an update."""
        if self.uncertainty is not None:
            self.uncertainty.clamp()


def balanced(task: Task, utterances: Sequence[Utterance]) -> Tensor:
    """(C,) float32 class weights N / (K N_c), scikit-learn's "balanced"; 0 for a class that no utterance has.

    N_c counts the labelled utterances of class c, or sums its votes; K is the number of classes that occur.
    """
    truth = targets(task, utterances)
    if task.kind == "distribution":
        counts = np.nansum(truth, axis=0)  # (C,)
    else:
        counts = np.bincount(truth[truth >= 0], minlength=len(task.labels)).astype(np.float32)  # (C,)
    occurs = counts > 0
    weights = np.divide(counts.sum(), occurs.sum() * counts, out=np.zeros_like(counts), where=occurs)
    return torch.from_numpy(weights.astype(np.float32))
