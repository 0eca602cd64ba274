"""A task's loss as a sum and a count, so that the trainer divides once by the count of the global batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from undertone.downstream.task import Task


def is_labelled(task: Task, targets: Tensor) -> Tensor:
    """(B,) targets -> (B,) bool: -1 (class) and NaN (regression) mean that the label is missing."""
    return targets >= 0 if task.kind == "classification" else ~targets.isnan()


def task_loss(task: Task, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The summed loss of the labelled utterances and their number; unlabelled ones are ignored by this task alone.

    Classification: cross-entropy. Regression: 1 - CCC over the labelled utterances of all processes' micro-batch,
    times the local count; with fewer than two of them CCC is undefined and the loss is 0.

    Args:
        task: what is predicted.
        logits: (B, C).
        targets: (B,) int64 class indices (-1 missing) or float values (NaN missing).

    Returns:
        sum () and count (), both on the logits' device; the sum keeps the graph even when the count is 0.
    """
    labelled = is_labelled(task, targets)
    if task.kind == "classification":
        total = F.cross_entropy(logits, targets, ignore_index=-1, reduction="sum")
        return total, labelled.sum()
    predictions, truth = logits[labelled, 0], targets[labelled].to(logits.dtype)
    return _ccc_sum(predictions, truth) + 0.0 * logits.sum(), labelled.sum()


def ccc(predictions: Tensor, targets: Tensor, eps: float = 1e-8) -> Tensor:
    """Concordance correlation coefficient, 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2), population moments (Lin 1989).

    Args:
        predictions: (N,).
        targets: (N,), N >= 2.
        eps: added to the denominator; two equal constants score 0.
    """
    mean_p, mean_t = predictions.mean(), targets.mean()
    covariance = ((predictions - mean_p) * (targets - mean_t)).mean()
    spread = predictions.var(correction=0) + targets.var(correction=0) + (mean_p - mean_t) ** 2
    return 2 * covariance / (spread + eps)


def _ccc_sum(predictions: Tensor, targets: Tensor) -> Tensor:
    """(1 - CCC over all processes) * local count, with a gradient that sums to the exact one over the processes."""
    local = len(predictions)
    everyone_p, everyone_t = _gather(predictions), _gather(targets)
    total = len(everyone_p)
    if total < 2:
        return predictions.sum() * 0.0
    loss = 1 - ccc(everyone_p, everyone_t)
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
