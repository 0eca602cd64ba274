"""Several upstreams, each trained alone: as the start of the training of all, or with the head `average` for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from accelerate import Accelerator
from torch import Tensor

from undertone.corpora.manifest import Utterance
from undertone.downstream.head import head_class
from undertone.downstream.network import Downstream, LiveModel
from undertone.experiments.fitted_heads import choose
from undertone.experiments.run import Training
from undertone.training.prediction_loop import predict_and_embed, selection_score
from undertone.training.trainer import Trained

Module = Downstream | LiveModel
Fit = Callable[..., tuple[Module, Trained]]
"""A training, its folder and utterances, perhaps first weights -> the trained module and the outcome."""


def streams_alone(training: Training, folder: Path, utterances: Sequence[Utterance], fit: Fit) -> dict[str, Tensor]:
    """Each of several streams trained alone, and its weights by their names in the model of all streams.

    A stream without such weights (a frozen upstream that goes into the head as it is) is not trained alone.
    """
    joint = training.new_module()
    learned = {name for name, one in joint.named_parameters() if one.requires_grad}
    found: dict[str, Tensor] = {}
    for stream in training.run.upstream.streams:
        alone = training.alone(stream)
        names = {name: own for name, own in _names(stream, joint, alone.new_module()).items() if name in learned}
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
    mean over the heads that make updates.
    """
    joint = training.new_module().to(accelerator.device)
    state, steps = joint.state_dict(), []
    for stream in training.run.upstream.streams:
        alone = training.alone(stream)
        if alone.config.sweep:  # of C
            inner = replace(alone, fold=replace(alone.fold, train=tuple(one.id for one in utterances), dev=()))
            with alone.run.display.bar(alone.title) as advance:
                chosen = choose(inner, inner.new_downstream(), accelerator, lambda *done: advance(*done[:2], "")).chosen
            alone = alone.with_values(chosen)
        module, trained = fit(alone, folder / stream, utterances)
        if not head_class(alone.config.head).is_fitted:
            steps.append(trained.best_step)
        own = module.state_dict()
        state |= {name: own[other] for name, other in _names(stream, joint, module).items()}
    joint.load_state_dict(state)
    step = round(fmean(steps)) if steps else 1
    if not dev:
        return joint, Trained(step, None, [])
    config = training.config
    predictions, _ = predict_and_embed(
        joint, training.run.tasks, training.source, dev, accelerator, config.batch_size, training.fold.name
    )
    score, metrics = selection_score(predictions, config.select_by)
    return joint, Trained(step, score, [{"step": step, "epoch": 1, "lr": None, "train_loss": None, "dev": metrics}])


def _names(stream: str, joint: Module, alone: Module) -> dict[str, str]:
    """{what a weight or buffer of a stream is called in the model of all: in that of the stream alone}."""
    found = {name: _name_alone(name, stream, joint, alone) for name in joint.state_dict() if f".{stream}." in name}
    known = alone.state_dict().keys()
    return {name: own for name, own in found.items() if own in known}


def _name_alone(name: str, stream: str, joint: Module, alone: Module) -> str:
    """What a weight of the model of all streams is called in that of one, whose head is the only one."""
    if name.startswith("upstream."):
        return name
    inside, outside = ("" if one.upstream is None else "downstream." for one in (alone, joint))
    return inside + name.removeprefix(outside).replace(f"head.heads.{stream}.", "head.")
