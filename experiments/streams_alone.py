"""Several upstreams, each trained alone: as the start of the training of all, or with the head `average` for good."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from undertone.corpora.manifest import Utterance
from undertone.downstream.head import head_class
from undertone.downstream.network import Downstream, LiveModel
from undertone.experiments.fitted_heads import choose
from undertone.experiments.hidden_states import any_video
from undertone.experiments.run import Training
from undertone.scoring.calibration import calibrate
from undertone.training.config import AVERAGE, RunConfig
from undertone.training.prediction_loop import predict_and_embed, selection_score
from undertone.training.trainer import DEV_PART, Trained
from undertone.upstream.types import ALONE

Module = Downstream | LiveModel
Fit = Callable[..., tuple[Module, Trained]]
"""A training, its folder and utterances, perhaps first weights -> the trained module and the outcome."""


def check_average(config: RunConfig) -> None:
    """Refuse, with a ValueError, what the head `average` does not do."""
    if config.head != AVERAGE:
        return
    if len(config.of_streams()) == 1:
        raise ValueError("The head average takes several upstreams, got one. Give several, or another head.")
    others = ("alone_first", "ladder", "mean_teacher", "pseudo_labels", "unlabelled")
    if names := [name for name in others if getattr(config, name)]:
        raise ValueError(
            f"The head average trains each stream alone and nothing else. Leave {' and '.join(names)} out."
        )
    if config.dev == "inner":
        raise ValueError(
            "dev=inner is for a head that a solver fits, and average may hold others. Leave it out: of several C inner "
            "folds choose anyway."
        )
    if swept := [key for key in config.sweep if key.startswith("head.")]:
        raise ValueError(
            f"sweep.{swept[0]}: the heads of the head average are not swept. Several C are given in heads, as "
            f"{{head: logistic, C: [1e-3, 1e-2]}}."
        )


def streams_alone(training: Training, folder: Path, utterances: Sequence[Utterance], fit: Fit) -> dict[str, Tensor]:
    """Each of several streams trained alone, and its weights by their names in the model of all streams.

    A stream without such weights (a frozen upstream that goes into the head as it is) is not trained alone, nor is one
    of pictures where no utterance has any: it would learn from nothing.
    """
    joint = training.new_module()
    learned = {name for name, one in joint.named_parameters() if one.requires_grad}
    found: dict[str, Tensor] = {}
    seen = any_video(utterances)
    for stream, part in training.run.upstream.streams.items():
        if part.sees and not seen:
            continue
        alone = training.alone(stream)
        new = alone.new_module()
        known = dict(new.named_parameters())
        names = {name: own for name, own in _names(stream, joint, new).items() if name in learned and own in known}
        if names:
            module, _ = fit(alone, folder / stream, utterances)
            state = module.state_dict()
            found |= {name: state[own] for name, own in names.items()}
    return found


def fit_average(
    training: Training,
    folder: Path,
    utterances: Sequence[Utterance],
    dev: Sequence[Utterance],
    accelerator: Accelerator,
    fit: Fit,
) -> tuple[Module, Trained]:
    """The head `average`: each stream trained alone, with the head of its own, and all of them put into one model.

    Dev selects the weights of each head that is trained by gradients, and scores the average. A head that a solver fits
    learns from the utterances alone; of several C it takes that of inner folds over their speakers. `best_step` is the
    mean over the heads that make updates: each makes that many in a training without dev.
    """
    joint = training.new_module().to(accelerator.device)
    state, steps, parts, found, how = joint.state_dict(), [], 1, {}, DEV_PART
    for stream in training.run.upstream.streams:
        alone = training.alone(stream)
        record: dict[str, Any] = {}
        if alone.config.sweep:  # of C
            outcome = _inner(alone, utterances, accelerator)
            record = {"C": outcome.chosen["head.C"], "chosen_by": outcome.chosen_by}
            how += f"; C of {stream} on {outcome.chosen_by}"
            alone = alone.with_values(outcome.chosen)
        module, trained = fit(alone, folder / stream, utterances)
        parts = max(parts, trained.micro_batches)
        if not head_class(alone.config.head).is_fitted:
            steps.append(trained.best_step)
            record = {"best_step": trained.best_step, "dev_score": trained.best_score}
        found[stream], own = record, module.state_dict()
        for name, other in _names(stream, joint, module).items():
            if other in own or not name.startswith("upstream."):  # of a frozen upstream the training has no copy
                state[name] = own[other]
    joint.load_state_dict(state)
    step = round(fmean(steps)) if steps else 1
    if not dev:
        return joint, Trained(step, None, [], parts, streams=found)
    predictions, _ = predict_and_embed(
        joint, training.run.tasks, training.source, dev, accelerator, training.config.batch_size, training.fold.name
    )
    score, metrics = selection_score(predictions, training.config.select_by)
    history = {"step": step, "epoch": 1, "lr": None, "train_loss": None, "dev": metrics}
    calibration = calibrate(predictions)
    return joint, Trained(step, score, [history], parts, chosen_by=how, calibration=calibration, streams=found)


def _inner(training: Training, utterances: Sequence[Utterance], accelerator: Accelerator) -> Trained:
    """Which C inner folds over the utterances' speakers choose."""
    fold = replace(training.fold, train=tuple(one.id for one in utterances), dev=())
    inner = replace(training, fold=fold, config=training.config.model_copy(update={"dev": None}))
    with training.run.display.bar(training.title) as advance:
        return choose(inner, inner.new_downstream(), accelerator, lambda done, last, _: advance(done, last, ""))


def _names(stream: str, joint: Module, alone: Module) -> dict[str, str]:
    """{what a weight or buffer of a stream is called in the model of all: in that of the stream alone}."""
    inside, outside = ("" if one.upstream is None else "downstream." for one in (alone, joint))
    mine = re.compile(rf"(layer_sum|head\.\w+)\.{stream}\.")  # head.heads.STREAM. of heads of their own
    found = {}
    for name in joint.state_dict():
        own = name.removeprefix(outside)
        if name.startswith(f"upstream.parts.{stream}."):
            found[name] = name
        elif mine.match(own):
            own = own.replace(f"head.heads.{stream}.", "head.")
            if stream == ALONE:  # which a model of one stream does not name
                own = own.replace(f"layer_sum.{stream}.", "layer_sum.")
            found[name] = inside + own
    return found
