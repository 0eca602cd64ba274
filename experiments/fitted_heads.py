"""Training a head whose weights a solver finds: C is chosen first, then the head is fitted once.

With `dev=inner`, the default, C is chosen by inner folds over the speakers of the fold's train and dev parts: a dev
part has only one or two speakers, and what is best for these may not be for others. Each speaker is scored once by a
head that was fitted without it; for each task the C with the best mean score over the inner folds is chosen, and the
head is fitted with it on train and dev. With `dev=fold` only the dev part is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from accelerate import Accelerator

from undertone.corpora.folds import inner_folds
from undertone.downstream.fitted_head import Plane, Reduced, check_C, in_threads
from undertone.downstream.head import head_class, task_output
from undertone.downstream.network import Downstream
from undertone.downstream.pooling import masked_mean
from undertone.experiments.hidden_states import fill_store
from undertone.experiments.run import Training
from undertone.scoring.calibration import calibration
from undertone.training.augmenter import changed_copies
from undertone.training.config import RunConfig
from undertone.training.prediction_loop import metric_of, nothing_selects, quick_metrics, selecting_metrics
from undertone.training.seeding import balanced_rows, chunks
from undertone.training.sources import StoreSource
from undertone.training.targets import targets
from undertone.training.trainer import DEV_PART, Follow, Trained
from undertone.upstream.types import HiddenStates

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance
    from undertone.downstream.task import Task

WITHOUT_EFFECT: dict[str, Any] = {
    "mode": "frozen",
    "adversarial": (),
    "task_weighting": "fixed",
    "label_smoothing": 0.0,
    "focal_gamma": 0.0,
    "ladder": False,
    "mean_teacher": 0.0,
    "pseudo_labels": None,
}
"""Settings that change a training by gradients, and the value at which they do not."""


def check_fitted(config: RunConfig) -> None:
    """Refuse settings that a head which is fitted by a solver cannot follow, with a ValueError that names them."""
    if not head_class(config.head).is_fitted:
        if config.dev == "inner":
            raise ValueError(
                f"dev=inner is for heads that are fitted by a solver (svm, logistic, lda, ridge); {config.head!r} is "
                f"trained by gradients and selects on the dev part of each fold. Leave dev=inner out."
            )
        return
    for value in config.sweep.get("head.C", ()):
        check_C(value)
    for name, neutral in WITHOUT_EFFECT.items():
        if (given := getattr(config, name)) != neutral:
            raise ValueError(
                f"Head {config.head!r} is fitted by a solver, not by gradients: {name}={given} has no meaning for it. "
                f"Leave it out, or take another head, such as linear."
            )


def chooses_inside(config: RunConfig) -> bool:
    """Whether inner folds over the speakers of train and dev choose, and the head is fitted on both afterwards."""
    return config.dev == "inner" or (config.dev is None and head_class(config.head).is_fitted)


def choose(training: Training, module: Downstream, accelerator: Accelerator, follow: Follow) -> Trained:
    """Score every C of the config's sweep, or the only one, and choose one for each task; the same in every process.

    One decomposition of an inner fold's training utterances serves every task and C. The test part is not used. An
    augmented copy of an utterance counts as much as the utterance, stays in its part, and is not scored. The outcome
    has one step, and the calibration of the scores that heads with the chosen C gave to what they were not fitted on. A
    ValueError says that a task has several C and no score on dev, or that no task that selects has one.
    """
    config, tasks, utterances = training.config, training.run.tasks, [*training.train, *training.dev]
    parts, chosen_by = _parts(training)
    parts = [(_balanced(config, utterances, fitted), scored) for fitted, scored in parts]
    last = len(utterances) * (1 + config.augment.copies) + len(parts)
    features = _features(training, module, utterances, accelerator, lambda done: follow(done, last, None))  # (K, N, D)
    head: Any = module.head
    wanted = selecting_metrics(tasks, config.select_by)
    grids = {task.name: list(config.sweep.get("head.C", ())) or [head.C[task.name]] for task in tasks}
    scores: dict[str, list[list[dict[str, float]]]] = {task.name: [] for task in tasks}  # part, C, metric
    logits: dict[str, list[list[np.ndarray]]] = {task.name: [] for task in tasks}  # part, C, (M, K)
    for number, (fitted, scored) in enumerate(parts, 1):
        data = Reduced(features[:, fitted].reshape(-1, features.shape[-1]))  # with all copies
        held_out = data.standardise(features[0, scored])  # (M, D)

        def solve(task: Task, data: Reduced = data, fitted: np.ndarray = fitted) -> list[Plane]:
            """The linear layers of a task with each C."""
            known = np.tile(targets(task, utterances)[fitted], len(features))
            return head.planes(data, task, known, grids[task.name], config.class_weights == "balanced")

        for task, planes in zip(tasks, in_threads(solve, tasks), strict=True):
            truth = targets(task, utterances)[scored]
            logits[task.name].append([held_out @ weights.T + bias for weights, bias in planes])
            scores[task.name].append([quick_metrics(task, truth, one) for one in logits[task.name][-1]])
        follow(last - len(parts) + number, last, None)
    chosen, record, best, calibrations = {}, {}, [], {}
    for task in tasks:
        metric, by_part = wanted.get(task.name) or metric_of(task, config.select_by), scores[task.name]
        values = [_mean(part[place].get(metric) for part in by_part) for place in range(len(grids[task.name]))]
        defined = [place for place, value in enumerate(values) if value is not None]
        if not defined and len(values) > 1:
            raise nothing_selects({task.name: metric})
        place = max(defined, key=lambda one: values[one], default=0)  # type: ignore[arg-type, return-value]
        chosen[task.name] = grids[task.name][place]
        if parts:
            truth = np.concatenate([targets(task, utterances)[scored] for _, scored in parts])
            of_all = torch.from_numpy(np.concatenate([part[place] for part in logits[task.name]]))  # (N, K)
            calibrations[task.name] = calibration(task, truth, task_output(task, of_all).numpy())
        if names := sorted({name for part in by_part for name in part[place]}):
            record[task.name] = {name: _mean(part[place].get(name) for part in by_part) for name in names}
        if task.name in wanted and defined:
            best.append(values[place])
    if not best:
        raise nothing_selects(wanted)
    score = float(np.mean(best))  # type: ignore[arg-type]
    history: dict[str, Any] = {"step": 1, "epoch": 1, "lr": None, "train_loss": None, "dev": record}
    follow(last, last, score)
    swept = {"head.C": chosen} if "head.C" in config.sweep else {}
    calibrated = {name: own for name, own in calibrations.items() if own}
    return Trained(1, score, [history], chosen=swept, chosen_by=chosen_by, calibration=calibrated)


def fit_head(
    training: Training, module: Downstream, utterances: Sequence[Utterance], accelerator: Accelerator, follow: Follow
) -> Trained:
    """Fit the head on the mean of each utterance's frames and of each copy's; every process finds the same weights.

    The layer sum stays the plain mean of the layers. The outcome has one step and no score.
    """
    config = training.config
    last = len(utterances) * (1 + config.augment.copies) + 1
    features = _features(training, module, utterances, accelerator, lambda done: follow(done, last, None))  # (K, N, D)
    rows = _balanced(config, utterances, np.arange(len(utterances)))
    features = features[:, rows]
    truth = {task.name: np.tile(targets(task, utterances)[rows], len(features)) for task in training.run.tasks}
    head: Any = module.head
    head.fit(features.reshape(-1, features.shape[-1]), truth, config.class_weights == "balanced")
    follow(last, last, None)
    return Trained(1, None, [])


def _balanced(config: RunConfig, utterances: Sequence[Utterance], rows: np.ndarray) -> np.ndarray:
    """The rows to fit on; with sampling=balanced, those of a small corpus repeated."""
    if config.sampling == "proportional":
        return rows
    return np.asarray(rows[balanced_rows([utterances[row].corpus for row in rows])])


def _parts(training: Training) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """Positions in train + dev to fit on and to score, for each part; and what to call that."""
    train, dev = training.train, training.dev
    inside = chooses_inside(training.config)
    if not dev and not inside:
        return [], DEV_PART
    if not inside:
        return [(np.arange(len(train)), np.arange(len(train), len(train) + len(dev)))], DEV_PART
    utterances = [*train, *dev]
    with_classes = [task for task in training.run.tasks if task.has_classes]
    labels = targets(with_classes[0], utterances) if with_classes else np.zeros(len(utterances), np.int64)
    parts, by_speaker = inner_folds([(item.corpus, item.speaker) for item in utterances], labels)
    over = "speakers" if by_speaker else "utterances (there are too few speakers)"
    return parts, f"{len(parts)} inner folds over the training {over}{', train and dev' if dev else ''}"


def _mean(values: Iterable[float | None]) -> float | None:
    """Of the defined ones; None where none is."""
    defined = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(defined)) if defined else None


def store_copies(training: Training, utterances: Sequence[Utterance], accelerator: Accelerator) -> None:
    """Put the hidden states of the copies of these utterances beside those of the utterances, if these are stored."""
    run, seed = training.run, training.config.seed
    if (augmenter := training.augmenter(accelerator.device)) is None or augmenter.stored is None:
        return
    for number in range(1, training.config.augment.copies + 1):
        new = [item for item in utterances if (seed, number, item.id) not in run.copies]
        copies = changed_copies(augmenter, new, number)
        store = cast(StoreSource, training.source).store
        fill_store(run.upstream, copies, store, accelerator, run.display, partial(augmenter.wave, number=number))
        run.copies.update({(seed, number, copy.id): copy for copy in copies})


@torch.no_grad()
def _features(
    training: Training,
    module: Downstream,
    utterances: Sequence[Utterance],
    accelerator: Accelerator,
    advance: Callable[[int], None],
) -> np.ndarray:
    """(K, N, D) float64 means over the frames of the layer sum: of the utterances, then of each of their copies."""
    module.to(accelerator.device)
    augmenter = training.augmenter(accelerator.device)
    found: list[np.ndarray] = []
    for number in range(1 + training.config.augment.copies):
        for batch in chunks(utterances, training.config.batch_size):
            states = training.source(batch) if augmenter is None else augmenter.changed(batch, [number] * len(batch))
            (frames,) = module.frames(cast(HiddenStates, states).to(accelerator.device)).values()
            found.append(masked_mean(frames).double().cpu().numpy())
            advance(sum(map(len, found)))
    whole = np.concatenate(found)
    return whole.reshape(-1, len(utterances), whole.shape[-1])
