"""Losses of each kind of task, weights between tasks, and the adversary's reversed gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from undertone.downstream.head import TaskOutputs
from undertone.downstream.task import Task

# ---- A task's loss as a sum and a count, so that the trainer divides once by the count of the global batch.


@dataclass(frozen=True)
class LossOptions:
    """How a task's loss is made."""

    label_smoothing: float = 0.0  # fraction of the target that is distributed over all classes (Szegedy et al. 2016)
    # weight (1 - p)^gamma of a class' term, which is small for what is already right (Lin et al. 2017)
    focal_gamma: float = 0.0
    regression: Literal["ccc", "mse"] = "ccc"  # `ccc`, 1 - CCC; or `mse`, the squared error


PLAIN = LossOptions()


def is_labelled(targets: Tensor) -> Tensor:
    """(B,) indices or values, or (B, C) probabilities -> (B,) bool: -1 (index) and NaN are missing labels."""
    if not targets.is_floating_point():
        return targets >= 0
    return ~(targets if targets.ndim == 1 else targets.sum(-1)).isnan()


def loss_count(task: Task, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """What the summed loss is divided by: the number of labelled utterances, or the sum of their class weights."""
    if class_weights is None or not task.has_classes:
        return is_labelled(targets).sum()
    return (_class_probabilities(task, targets, class_weights.dtype) * class_weights).sum()


def task_loss(
    task: Task, logits: Tensor, targets: Tensor, options: LossOptions = PLAIN, class_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The summed loss of the labelled utterances and their count; unlabelled ones are ignored by this task alone.

    Classes: cross-entropy against the probabilities q of the classes (1 for the class of an index), sum over c of
    -w_c q_c (1 - p_c)^gamma log p_c with q smoothed; its mean is torch's, smoothing and weights included. Regression:
    1 - CCC over the labelled utterances of all processes' micro-batch, times the local count; with fewer than two of
    them CCC is undefined and the loss is 0; where all have one value it is 1, without a gradient. Or the squared error.

    Args:
        task: what is predicted.
        logits: (B, C).
        targets: (B,) int64 class indices (-1 missing), (B, C) probabilities of the classes (NaN missing), or
            (B,) values (NaN missing).
        options: how the loss is made.
        class_weights: (C,) factor of each class.

    Returns:
        sum () and count (), as `loss_count` gives it, both on the logits' device; the sum keeps the graph even when
        the count is 0.
    """
    count = loss_count(task, targets, class_weights)
    if task.has_classes:
        return cross_entropy_terms(task, logits, targets, options, class_weights).sum(), count
    predictions, truth = logits[:, 0], targets.to(logits.dtype)
    if options.regression == "mse":
        return ((predictions - truth.nan_to_num()) ** 2 * is_labelled(targets)).sum(), count
    return _ccc_sum(predictions, truth), count


def _class_probabilities(task: Task, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """(..., B, C) probability of each class in the target; all 0 where the label is missing."""
    if targets.is_floating_point():
        return targets.nan_to_num(0.0).to(dtype)
    probabilities = F.one_hot(targets.clamp(min=0), task.num_outputs).to(dtype)
    return probabilities * (targets >= 0).unsqueeze(-1)


def cross_entropy_terms(
    task: Task, logits: Tensor, targets: Tensor, options: LossOptions, class_weights: Tensor | None
) -> Tensor:
    """(..., B, C) terms whose sum over utterances and classes is the loss of `task_loss`.

    Targets, (..., B) indices or (..., B, C) probabilities, and class weights, (..., 1, C) or (C,), are broadcast.
    """
    probabilities = _class_probabilities(task, targets, logits.dtype)  # (..., B, C)
    if options.label_smoothing:
        uniform = is_labelled(targets).unsqueeze(-1) / task.num_outputs  # (..., B, 1)
        probabilities = torch.lerp(probabilities, uniform.to(probabilities.dtype), options.label_smoothing)
    terms = -logits.log_softmax(-1) * probabilities
    if options.focal_gamma:
        # Away from 0, where the power's gradient is infinite for gamma < 1.
        terms = terms * (1 - logits.softmax(-1)).clamp(min=1e-6) ** options.focal_gamma
    return terms if class_weights is None else terms * class_weights


def ccc(predictions: Tensor, targets: Tensor) -> Tensor:
    """Concordance correlation coefficient, 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2), population moments (Lin 1989).

    Args:
        predictions: (N,).
        targets: (N,), NaN where there is none, which then counts for nothing; two or more are needed. Where all are
            one value, no prediction agrees better than another: 0, without a gradient.
    """
    return 1 - _ccc_loss(predictions, targets)


def _ccc_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """1 - CCC, as the mean of (x - y)^2 over CCC's denominator: 0 where x = y, in whatever unit the values are."""
    # By weights and not by picking, so that many trainings can be stacked over it.
    labelled = is_labelled(targets)
    weight = labelled.to(targets.dtype) / labelled.sum().clamp(min=1)  # (N,)
    highest, lowest = (targets.masked_fill(~labelled, end) for end in (-torch.inf, torch.inf))
    targets = targets.nan_to_num()
    mean_p, mean_t = (weight * predictions).sum(), (weight * targets).sum()
    denominator = (weight * ((predictions - mean_p) ** 2 + (targets - mean_t) ** 2)).sum() + (mean_p - mean_t) ** 2
    varies = (highest.amax() > lowest.amin()) & (denominator > 0)
    error = (weight * (predictions - targets) ** 2).sum()
    return torch.where(varies, error / torch.where(varies, denominator, 1.0), 1.0)


def ccc_slopes(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives (N,) of 1 - CCC over all processes' utterances by this process' predictions, and that loss ().

    With them the gradient of the whole comes from parts: a part's predictions times their derivatives have it. Both are
    0 with fewer than two targets.
    """
    with torch.enable_grad():
        leaf = predictions.detach().requires_grad_()
        loss = _ccc_of_everyone(leaf, targets)
        (slopes,) = torch.autograd.grad(loss, leaf)
    return slopes, loss.detach()


def _ccc_of_everyone(predictions: Tensor, targets: Tensor) -> Tensor:
    everyone_p, everyone_t = _gather(predictions), _gather(targets)
    if not len(everyone_t):  # a batch whose recordings have no annotation over time
        return everyone_p.sum()
    return torch.where(is_labelled(everyone_t).sum() < 2, 0.0, _ccc_loss(everyone_p, everyone_t))


def _ccc_sum(predictions: Tensor, targets: Tensor) -> Tensor:
    """(1 - CCC over all processes) * local count, with a gradient that sums to the exact one over the processes."""
    local, total = is_labelled(targets).sum(), is_labelled(_gather(targets)).sum()
    loss = _ccc_of_everyone(predictions, targets)
    # The gradient flows only through this process's predictions; the others' parts come from the other processes.
    # Processes' gradients are summed and divided by the total count, so each must carry the total as its factor.
    return loss * local + (total - local) * (loss - loss.detach())


def _gather(values: Tensor) -> Tensor:
    """All processes' (N_p,) values in one (N,) tensor; this process's part keeps its graph."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return values
    sizes = [torch.zeros(1, dtype=torch.int64, device=values.device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(values)], device=values.device))
    longest = int(max(int(size) for size in sizes))
    padded = F.pad(values.detach(), (0, longest - len(values)))
    parts = [torch.zeros_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    own = dist.get_rank()
    return torch.cat([values if rank == own else part[: int(sizes[rank])] for rank, part in enumerate(parts)])


# ---- Weights of the tasks that are learned with them.

BOUND = 5.0


class UncertaintyWeights(nn.Module):
    """A learned s = log sigma^2 a task: exp(-s) L + s / 2, for a regression exp(-s) L / 2 + s / 2; s starts at 0.

    Kendall, Gal & Cipolla 2018 (arXiv 1705.07115, eq. 7 and 10). 1 - CCC is no likelihood and can come near 0, where s
    would run away: `clamp` keeps it in [-5, 5]. Train s without weight decay.
    """

    def __init__(self, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.position = {task.name: position for position, task in enumerate(tasks)}
        self.log_variances = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, task: Task, loss: Tensor, fraction: float = 1.0) -> Tensor:
        """Weigh one task's loss (), this process' and micro-batch's part of the mean over the global batch.

        `fraction` of the term s / 2 is added here; those of a global batch sum to 1.
        """
        log_variance = self.log_variances[self.position[task.name]]
        factor = 1.0 if task.has_classes else 0.5
        return factor * (-log_variance).exp() * loss + 0.5 * fraction * log_variance

    @torch.no_grad()
    def clamp(self) -> None:
        """Put s back into its bounds; after an update."""
        self.log_variances.clamp_(-BOUND, BOUND)


# ---- What the embedding must not reveal: an adversary that learns it, through a reversed gradient.


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(values: Tensor, strength: float) -> Tensor:
    """The same values; their gradient is multiplied by -strength (Ganin & Lempitsky 2015, arXiv 1409.7495)."""
    return _Reversal.apply(values, strength)


def reversal_strength(progress: float, maximum: float = 1.0) -> float:
    """Maximum * (2 / (1 + exp(-10 p)) - 1) at the fraction p of the training (Ganin & Lempitsky, eq. 14)."""
    return maximum * (2 / (1 + math.exp(-10 * progress)) - 1)


class Adversary(nn.Module):
    """Predicts the adversarial tasks from the embedding (B, E); the embedding learns to prevent it.

    It is part of the training, not of the model. That it fails does not show that the embedding tells nothing: train a
    fresh probe on the embedding for that.
    """

    def __init__(self, embedding_size: int, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.hidden = nn.Linear(embedding_size, embedding_size)
        self.outputs = TaskOutputs(embedding_size, tasks)

    def forward(self, embedding: Tensor, strength: float) -> dict[str, Tensor]:
        """(B, E) -> {task: (B, C)}."""
        return self.outputs(self.hidden(reverse_gradient(embedding, strength)).relu())
