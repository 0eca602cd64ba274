"""Pseudo-labels: unlabelled speech with the class that a trained model is sure of (Lee 2013; Xie et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate import Accelerator

from undertone.downstream.network import Downstream, LiveModel
from undertone.downstream.task import Task
from undertone.experiments.run import Training
from undertone.training.prediction_loop import predict_and_embed

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance


@dataclass(frozen=True)
class PseudoLabelled:
    """Unlabelled utterances with labels."""

    utterances: tuple[Utterance, ...]
    sentence: str  # how many, and how sure the model was


def pseudo_labelled(
    training: Training, module: Downstream | LiveModel, accelerator: Accelerator, dev: Sequence[Utterance]
) -> PseudoLabelled:
    """The unlabelled utterances whose class is predicted with `pseudo_labels` precision, as dev shows it.

    Taken are those whose highest probability is at least the threshold of `confident`. Without dev, in the last
    training on all speakers, the threshold is the precision itself.
    """
    task, precision = labelled_task(training.run.tasks), float(training.config.pseudo_labels or 0.0)

    def scores(utterances: Sequence[Utterance]) -> tuple[np.ndarray, np.ndarray]:
        """(N, C) probabilities and (N,) targets."""
        source, size = training.source, training.config.batch_size
        found, _ = predict_and_embed(module, training.run.tasks, source, utterances, accelerator, size)
        return found.scores[task.name], found.targets[task.name]

    threshold: float | None = precision
    if dev:
        probabilities, truth = scores(dev)
        known = truth >= 0
        threshold = confident(probabilities[known], truth[known], precision)
    if threshold is None:
        return PseudoLabelled((), f"no pseudo-labels, as no confidence has a precision of {precision:g} on dev")
    probabilities, _ = scores(training.run.unlabelled)
    sure = probabilities.max(1) >= threshold
    labels = [task.labels[number] for number in probabilities.argmax(1)]
    items = zip(training.run.unlabelled, labels, sure, strict=True)
    chosen = tuple(_with_label(item, task.name, label) for item, label, is_sure in items if is_sure)
    return PseudoLabelled(
        chosen,
        f"{len(chosen)} of {len(sure)} unlabelled utterances have a pseudo-label (probability >= {threshold:.3f})",
    )


def labelled_task(tasks: Sequence[Task]) -> Task:
    """The first task with classes of whole utterances, for which labels are predicted; others stay without labels.

    Raises:
        ValueError: there is none.
    """
    for task in tasks:
        if task.kind == "classification" and task.level == "utterance":
            return task
    raise ValueError(
        "pseudo_labels needs a task with classes, such as tasks=emotion. Use mean_teacher or ladder instead."
    )


def confident(probabilities: np.ndarray, truth: np.ndarray, precision: float) -> float | None:
    """The lowest threshold of the highest probability above which this fraction of predictions is right.

    Args:
        probabilities: (N, C).
        truth: (N,) classes.
        precision: the fraction, between 0 and 1.

    Returns:
        None where no threshold reaches it.
    """
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    right = (probabilities.argmax(1) == truth)[order]  # (N,), the surest first
    enough = np.flatnonzero(np.cumsum(right) / np.arange(1, len(right) + 1) >= precision)
    return float(confidence[order][enough[-1]]) if len(enough) else None


def _with_label(item: Utterance, column: str, label: str) -> Utterance:
    changed: dict[str, Any] = (
        {column: label} if hasattr(item, column) else {"extra": {**(item.extra or {}), column: label}}
    )
    return replace(item, **changed)
