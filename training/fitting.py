"""Training of a head whose weights a solver finds: once, from all training utterances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator

from undertone.downstream.downstream import Downstream
from undertone.downstream.fitted_head import FittedHead
from undertone.downstream.head import head_class
from undertone.downstream.pooling import masked_mean
from undertone.training.config import RunConfig
from undertone.training.copies import copies_of
from undertone.training.feeding import Source
from undertone.training.order import chunks
from undertone.training.scoring import predict, selection_score
from undertone.training.targets import targets
from undertone.training.trainer import Trained

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance
    from undertone.training.run import Run

WITHOUT_EFFECT: dict[str, Any] = {
    "mode": "frozen",
    "adversarial": (),
    "task_weighting": "fixed",
    "label_smoothing": 0.0,
    "focal_gamma": 0.0,
    "ladder": False,
}
"""What changes a training by gradients, and the value at which it does not."""


def check_fitted(config: RunConfig) -> None:
    """Refuse settings that a head which is fitted by a solver cannot follow.

    Raises:
        ValueError: names the setting.
    """
    if not issubclass(head_class(config.head), FittedHead):
        return
    for name, neutral in WITHOUT_EFFECT.items():
        if (given := getattr(config, name)) != neutral:
            raise ValueError(
                f"Head {config.head!r} is fitted by a solver, not by gradients: {name}={given} has no meaning for it. "
                f"Leave it out, or take another head, such as linear."
            )


def fit_head(
    run: Run,
    module: Downstream,
    train: Sequence[Utterance],
    dev: Sequence[Utterance],
    accelerator: Accelerator,
    follow: Callable[[int, int, float | None], None],
) -> Trained:
    """Fit the head on the mean of each training utterance's frames; every process finds the same weights.

    Args:
        run: its config's `class_weights`, `select_by`, `batch_size` and `augment` count; a changed copy of an utterance
            counts as much as the utterance.
        module: an untrained downstream with a `FittedHead`; its layer sum stays the plain mean of the layers.
        train: utterances to learn from.
        dev: utterances to score; may be empty.
        accelerator: devices and processes.
        follow: called with the copies that were heard, and when done.

    Returns:
        an outcome of one step, the only one there is.
    """
    config, copies = run.config, copies_of(run, accelerator)
    module.to(accelerator.device)
    means = [_means(run.source, module, train, accelerator, config.batch_size)]
    for number, copy in enumerate(copies, start=1):
        means.append(_means(copy, module, train, accelerator, config.batch_size))
        follow(number, len(copies) + 1, None)
    truth = {task.name: np.concatenate([targets(task, train)] * len(means)) for task in run.tasks}
    head: Any = module.head
    head.fit(np.concatenate(means), truth, config.class_weights == "balanced")
    record: dict[str, Any] = {"step": 1, "epoch": 1, "lr": None, "train_loss": None}
    score = None
    if dev:
        predictions = predict(module, run.tasks, run.source, dev, accelerator, config.batch_size)
        score, record["dev"] = selection_score(predictions, config.select_by)
    follow(len(means), len(means), score)
    return Trained(1, score, [record])


@torch.no_grad()
def _means(
    source: Source, module: Downstream, utterances: Sequence[Utterance], accelerator: Accelerator, size: int
) -> np.ndarray:
    """(N, D) float64 means over the frames of the layer sum."""
    batches = (source(batch).to(accelerator.device) for batch in chunks(utterances, size))
    means = [masked_mean(module.layer_sum(hidden)).double().cpu().numpy() for hidden in batches]
    return np.concatenate(means)
