"""Which frames of a clip a prediction rests on: integrated gradients, beside attention and layer weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undertone.audio.read import AudioError
from undertone.audio.speech import no_speech
from undertone.common.discovery import nearest
from undertone.downstream.model import UndertoneModel, utterance_logits
from undertone.downstream.task import Task
from undertone.inference.recordings import Recording
from undertone.inference.waves import Extras, predict_waves
from undertone.upstream.types import HiddenStates, StreamBatch, WaveBatch, sound_of

STEPS = 100  # of the integral
CHUNK_BYTES = 256_000_000  # of hidden states whose gradients are computed at once


@dataclass(frozen=True, eq=False)
class Explanation:
    """A prediction for one clip, and what it rests on.

    Attributes:
        file: as given.
        samples: (N,) float32 at the model's rate.
        sample_rate: Hz.
        prediction: of all tasks, as `Predictor.predict` gives it, with the attention.
        task: what is explained.
        target: the class whose score is explained; None of a task with values.
        attributions: (T,) float64, what each frame of the upstream adds to the score, of several all together; they
            divide the clip evenly. None where there is none.
        reason: why there is none; "" where there is one.
        score: the score that is explained, in logits above the mean of all classes, or the value.
        gap: `score` minus that of a clip whose frames are all zero, minus the sum of the attributions: the error of the
            integral.
        layer_weights: (L,) float32 of the layer sum; None of an upstream with one layer, and of several.
        no_speech: why `predict` would give no prediction, which is explained all the same; None where it would.
    """

    file: str
    samples: np.ndarray
    sample_rate: int
    prediction: dict[str, Any]
    task: Task
    target: str | None
    attributions: np.ndarray | None
    reason: str
    score: float
    gap: float
    layer_weights: np.ndarray | None
    no_speech: str | None = None

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.sample_rate


def explain(
    model: UndertoneModel,
    file: str | PathLike[str],
    task: str | None = None,
    target: str | None = None,
    steps: int = STEPS,
) -> Explanation:
    """Explain one prediction by integrated gradients (Sundararajan et al., ICML 2017), computed by captum.

    The gradients are those of the head and the layer sum with respect to the hidden states, from a baseline of zeros,
    summed over layers and features. So every upstream with frames has them, frozen or not; a frame of a transformer
    also holds what is around it. The score is the logit of the class above the mean logit of all classes, to
    which adding the same to all logits makes no difference, or the value.

    Args:
        model: on a CPU or a GPU.
        file: audio of any rate and channel count.
        task: its name; None: the first one.
        target: the class; None: the predicted one.
        steps: of the integral.

    Raises:
        ValueError: captum is not installed, an unknown task or class, or a task that is predicted over time.
        AudioError: the file cannot be read.
    """
    chosen = _task(model, task)
    if target is not None and target not in chosen.labels:
        raise ValueError(f"Task {chosen.name!r} has no class {target!r}.{nearest(target, chosen.labels)}")
    wave = Recording(str(file), file).wave(model.upstream)
    if isinstance(wave, AudioError):
        raise wave
    samples = sound_of(wave)
    model.eval()
    (prediction,) = predict_waves(model, [wave], Extras(attention=True))
    if isinstance(prediction, ValueError):  # the memory does not hold it, or its scores are not finite
        raise prediction
    batch = WaveBatch.collate([wave], model.sample_rate).to(model.device)
    with torch.no_grad():
        hidden = model.upstream(batch)
        states: dict[str, Tensor] = {name: one.states for name, one in hidden.streams.items()}  # (1, L, T, D) each
        logits = utterance_logits(model.downstream(_hidden(states)), chosen.name)[0]  # (C,)
    place = 0
    if chosen.has_classes:
        place = int(logits.argmax()) if target is None else chosen.labels.index(target)
    reason = why_not(states, model.upstream.name)
    attributions, gap = (None, 0.0) if reason else _integrated(model, states, chosen, place, steps)
    sums = list(model.downstream.layer_sums.values())
    weights = sums[0].layer_weights().detach().cpu().numpy()
    return Explanation(
        file=str(file),
        samples=samples.numpy(),
        sample_rate=model.sample_rate,
        prediction={"file": str(file), **prediction},
        task=chosen,
        target=chosen.labels[place] if chosen.has_classes else None,
        attributions=attributions,
        reason=reason,
        score=float(_score(logits[None], chosen, place)),
        gap=gap,
        layer_weights=weights if len(weights) > 1 and len(sums) == 1 else None,
        no_speech=no_speech(samples, model.sample_rate) if model.config.speech_only else None,
    )


def why_not(states: Mapping[str, Tensor], upstream: str) -> str:
    """Why no frame can be attributed anything, in a sentence; "" where it can."""
    if any(one.shape[2] > 1 for one in states.values()):
        return ""
    return (
        f"The upstream {upstream} gives one vector for the whole clip, so no moment of it can be told apart. Upstreams "
        f"with frames (wav2vec 2.0 and its like, fbank, mfcc, spectrogram) show when."
    )


def _task(model: UndertoneModel, name: str | None) -> Task:
    tasks = {task.name: task for task in model.tasks}
    chosen: Task = model.tasks[0] if name is None else tasks.get(name)  # type: ignore[assignment]
    if chosen is None:
        raise ValueError(f"The model has no task {name!r}; it predicts {', '.join(tasks)}.")
    if chosen.level == "frame":
        raise ValueError(f"{chosen.name} is predicted over time, which `undertone predict --json` shows as it is.")
    return chosen


def _hidden(states: Mapping[str, Tensor]) -> StreamBatch:
    """Rows without padding."""
    found = {}
    for name, one in states.items():
        lengths = torch.full((len(one),), one.shape[2], dtype=torch.int64, device=one.device)
        found[name] = HiddenStates(one, lengths)
    return StreamBatch(found)


def _score(logits: Tensor, task: Task, place: int) -> Tensor:
    """(B, C) logits -> (B,), the class' logit above the mean of all, or the value."""
    return logits[:, place] - logits.mean(1) if task.has_classes else logits[:, 0]


def _integrated(
    model: UndertoneModel, states: Mapping[str, Tensor], task: Task, place: int, steps: int
) -> tuple[np.ndarray, float]:
    """(T,) attributions of one clip's {stream: (1, L, T, D)} states, and the error of the integral.

    Of several streams they are added at the frames of the one that has most, a slower one's divided evenly over its
    time.
    """
    try:
        from captum.attr import IntegratedGradients
    except ModuleNotFoundError as error:
        raise ValueError("`undertone explain` needs captum: pip install 'undertone[explain]'.") from error

    def score(*rows: Tensor) -> Tensor:
        hidden = _hidden(dict(zip(states, rows, strict=True)))
        return _score(utterance_logits(model.downstream(hidden), task.name), task, place)

    at_once = max(1, CHUNK_BYTES // sum(one.numel() * one.element_size() for one in states.values()))
    baselines = (0.0,) * len(states)
    found, gap = IntegratedGradients(score).attribute(
        tuple(states.values()), baselines, n_steps=steps, internal_batch_size=at_once, return_convergence_delta=True
    )
    frames = [one.detach().double().sum((0, 1, 3)).cpu().numpy() for one in found]  # (T,) each
    return np.asarray(sum(_spread(one, max(map(len, frames))) for one in frames)), -float(gap)


def _spread(values: np.ndarray, size: int) -> np.ndarray:
    """(T,) numbers of the parts of a clip -> (size,), the same sums over finer parts."""
    if len(values) == size:
        return values
    sums = np.interp(np.linspace(0, 1, size + 1), np.linspace(0, 1, len(values) + 1), np.cumsum([0, *values]))
    return np.diff(sums)
