"""Training of a head whose weights a solver finds: C is chosen first, then the head is fitted once.

With `dev=inner`, the default, C is chosen by inner folds over the speakers of the fold's train and dev parts: with few
speakers a dev part holds one or two of them, and what is best for these says little of others. Each of them is scored
once by a head that was fitted without that speaker; the C with the best mean score over the inner folds is taken, for
each task on its own, and the head is fitted with it on train and dev. With `dev=fold` the dev part alone is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator

from undertone.corpora.folds import inner_folds
from undertone.downstream.downstream import Downstream
from undertone.downstream.fitted_head import FittedHead, Reduced, check_C
from undertone.downstream.head import head_class
from undertone.downstream.pooling import masked_mean
from undertone.training.config import RunConfig
from undertone.training.copies import copies_of
from undertone.training.order import chunks
from undertone.training.scoring import metric_of, nothing_selects, quick_metrics, selecting_metrics
from undertone.training.targets import targets
from undertone.training.trainer import DEV_PART, Follow, Trained

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
        if config.dev == "inner":
            raise ValueError(
                f"dev=inner is for heads that are fitted by a solver (svm, logistic, ridge); {config.head!r} is "
                f"trained by gradients and selects on the dev part of each fold. Leave dev=inner out."
            )
        return
    for key, values in config.sweep.items():
        if key == "head.C":
            for value in values:
                check_C(value)
    for name, neutral in WITHOUT_EFFECT.items():
        if (given := getattr(config, name)) != neutral:
            raise ValueError(
                f"Head {config.head!r} is fitted by a solver, not by gradients: {name}={given} has no meaning for it. "
                f"Leave it out, or take another head, such as linear."
            )


def chooses_inside(config: RunConfig) -> bool:
    """Whether inner folds over the speakers of train and dev choose, and both are fitted afterwards."""
    return config.dev == "inner" or (config.dev is None and issubclass(head_class(config.head), FittedHead))


def choose(
    run: Run,
    module: Downstream,
    train: Sequence[Utterance],
    dev: Sequence[Utterance],
    accelerator: Accelerator,
    follow: Follow,
) -> Trained:
    """Score every C of the run's sweep, or the only one, and choose one for each task; every process finds the same.

    One decomposition of an inner fold's training utterances serves every task and C. The test part has no role here.

    Args:
        run: its config's `dev`, `sweep`, `class_weights`, `select_by`, `batch_size` and `augment` count; a changed copy
            of an utterance counts as much as the utterance, goes with it, and is not scored.
        module: an untrained downstream with a `FittedHead`.
        train: of the fold.
        dev: of the fold.
        accelerator: devices and processes.
        follow: called with what was done and what there is to do, from reading features to the last inner fold.

    Returns:
        an outcome of one step, the only one there is.

    Raises:
        ValueError: a task has several C to choose from and no score on dev, or no task that selects has one.
    """
    config, utterances = run.config, [*train, *dev]
    parts, chosen_by = _parts(run, train, dev)
    last = len(utterances) * (1 + config.augment.copies) + len(parts)
    features = _features(run, module, utterances, accelerator, lambda done: follow(done, last, None))  # (K, N, D)
    head: Any = module.head
    wanted = selecting_metrics(run.tasks, config.select_by)
    grids = {task.name: list(config.sweep.get("head.C", ())) or [head.C[task.name]] for task in run.tasks}
    scores: dict[str, list[list[dict[str, float]]]] = {task.name: [] for task in run.tasks}  # part, C, metric
    for number, (fitted, scored) in enumerate(parts, 1):
        data = Reduced(_rows(features, fitted))
        held = data.standardise(features[0, scored])  # (M, D)
        for task in run.tasks:
            truth, balanced = targets(task, utterances), config.class_weights == "balanced"
            known = np.tile(truth[fitted], len(features))
            planes = head.planes(data, task, known, grids[task.name], balanced)
            found = [quick_metrics(task, truth[scored], held @ weights.T + bias) for weights, bias in planes]
            scores[task.name].append(found)
        follow(last - len(parts) + number, last, None)
    chosen, record, best = {}, {}, []
    for task in run.tasks:
        metric = wanted.get(task.name) or metric_of(task, config.select_by)
        values = [
            _mean(part[place].get(metric) for part in scores[task.name]) for place in range(len(grids[task.name]))
        ]
        defined = [place for place, value in enumerate(values) if value is not None]
        if not defined and len(values) > 1:
            raise nothing_selects({task.name: metric})
        place = max(defined, key=lambda one: values[one], default=0)  # type: ignore[arg-type, return-value]
        chosen[task.name] = grids[task.name][place]
        names = {name for part in scores[task.name] for name in part[place]}
        if names:
            record[task.name] = {
                name: _mean(part[place].get(name) for part in scores[task.name]) for name in sorted(names)
            }
        if task.name in wanted and defined:
            best.append(values[place])
    if not best:
        raise nothing_selects(wanted)
    score = float(np.mean(best))  # type: ignore[arg-type]
    history: dict[str, Any] = {"step": 1, "epoch": 1, "lr": None, "train_loss": None, "dev": record}
    follow(last, last, score)
    return Trained(
        1, score, [history], chosen={"head.C": chosen} if "head.C" in config.sweep else {}, chosen_by=chosen_by
    )


def fit_head(
    run: Run, module: Downstream, utterances: Sequence[Utterance], accelerator: Accelerator, follow: Follow
) -> Trained:
    """Fit the head on the mean of each utterance's frames and of each copy's; every process finds the same weights.

    Args:
        run: with nothing left to sweep; its config's `class_weights`, `batch_size` and `augment` count.
        module: an untrained downstream with a `FittedHead`; its layer sum stays the plain mean of the layers.
        utterances: to learn from.
        accelerator: devices and processes.
        follow: called with what was done and what there is to do.

    Returns:
        an outcome of one step, without a score.
    """
    last = len(utterances) * (1 + run.config.augment.copies) + 1
    features = _features(run, module, utterances, accelerator, lambda done: follow(done, last, None))  # (K, N, D)
    truth = {task.name: np.tile(targets(task, utterances), len(features)) for task in run.tasks}
    head: Any = module.head
    head.fit(features.reshape(-1, features.shape[-1]), truth, run.config.class_weights == "balanced")
    follow(last, last, None)
    return Trained(1, None, [])


def _parts(
    run: Run, train: Sequence[Utterance], dev: Sequence[Utterance]
) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """Positions in train + dev to fit on and to score, for each part; and what to call that."""
    if not dev:
        return [], DEV_PART
    if not chooses_inside(run.config):
        return [(np.arange(len(train)), np.arange(len(train), len(train) + len(dev)))], DEV_PART
    utterances = [*train, *dev]
    with_classes = [task for task in run.tasks if task.has_classes]
    labels = targets(with_classes[0], utterances) if with_classes else np.zeros(len(utterances), np.int64)
    parts, by_speaker = inner_folds([(item.corpus, item.speaker) for item in utterances], labels)
    over = "speakers" if by_speaker else "utterances (there are too few speakers)"
    return parts, f"{len(parts)} inner folds over the training {over}, train and dev"


def _rows(features: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(K, N, D) -> (K M, D): the utterances at these positions and all their copies."""
    found: np.ndarray = features[:, positions].reshape(-1, features.shape[-1])
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    """Of those that are defined; None where none is."""
    defined = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(defined)) if defined else None


@torch.no_grad()
def _features(
    run: Run,
    module: Downstream,
    utterances: Sequence[Utterance],
    accelerator: Accelerator,
    advance: Callable[[int], None],
) -> np.ndarray:
    """(K, N, D) float64 means over the frames of the layer sum: of the utterances, then of each of their copies."""
    module.to(accelerator.device)
    found: list[np.ndarray] = []
    for source in (run.source, *copies_of(run, accelerator)):
        for batch in chunks(utterances, run.config.batch_size):
            hidden: Any = source(batch)
            means = masked_mean(module.layer_sum(hidden.to(accelerator.device))).double().cpu().numpy()
            found.append(means)
            advance(sum(map(len, found)))
    whole = np.concatenate(found)
    return whole.reshape(-1, len(utterances), whole.shape[-1])
