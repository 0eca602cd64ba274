"""The attention of a head in a few test clips of each class: saved with a fold's predictions, for the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from undertone.audio.read import AudioError, read_audio
from undertone.common.files import atomic_path
from undertone.downstream.network import Downstream, LiveModel
from undertone.downstream.task import Task
from undertone.scoring.predictions import Predictions
from undertone.training.seeding import draw
from undertone.training.sources import Source

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance

FILE_NAME = "attention.safetensors"
CLIPS = 2  # of each class
BINS = 200  # of a clip's level
THIRDS = ("lowest third", "middle third", "highest third")  # of a task with values, in place of classes


@dataclass(frozen=True)
class AttentionClip:
    """The attention in one test clip.

    Attributes:
        id: of the utterance.
        group: its true class; of a value, its third of the test utterances.
        predicted: the class, or the value as text.
        duration: seconds.
        weights: (T,) float16, the weight of each frame; they divide the clip evenly and sum to 1.
        level: (BINS,) float16, peak of each segment relative to the clip's; empty where the file could not be read.
    """

    id: str
    group: str
    predicted: str
    duration: float
    weights: np.ndarray
    level: np.ndarray


@torch.inference_mode()
def attention_clips(
    module: Downstream | LiveModel,
    source: Source,
    device: torch.device,
    utterances: Sequence[Utterance],
    predictions: Predictions,
) -> list[AttentionClip]:
    """`CLIPS` test clips of each class of the first task, drawn at random, the same every time.

    There are none where the head has no attention, or predicts frame by frame.
    """
    task = predictions.tasks[0]
    if task.level == "frame":
        return []
    module.eval()
    by_id, clips = {item.id: item for item in utterances}, []
    for group, rows in _groups(task, predictions).items():
        for row in sorted(rows, key=lambda row: draw("attention", predictions.ids[row]))[:CLIPS]:
            utterance = by_id[predictions.ids[row]]
            output = module(source([utterance]).to(device))
            if output.attention is None:
                return []
            weights = output.attention_of(0).float().cpu().numpy().astype(np.float16)  # (T,)
            score = predictions.scores[task.name][row]  # (C,)
            if task.kind == "classification":
                predicted = task.labels[int(score.argmax())]
            else:
                predicted = f"{float(score[0]):.2f}, true {float(predictions.targets[task.name][row]):.2f}"
            clips.append(AttentionClip(utterance.id, group, predicted, utterance.duration, weights, _level(utterance)))
    return clips


def save_attention(folder: Path, clips: Sequence[AttentionClip]) -> None:
    """Write the clips, if there are any."""
    from safetensors.numpy import save_file

    if not clips:
        return
    texts = [{"id": c.id, "group": c.group, "predicted": c.predicted, "duration": c.duration} for c in clips]
    tensors = {f"{name}.{row}": getattr(clip, name) for row, clip in enumerate(clips) for name in ("weights", "level")}
    with atomic_path(folder / FILE_NAME) as draft:
        save_file(tensors, draft, metadata={"clips": json.dumps(texts)})


def load_attention(folder: Path) -> list[AttentionClip]:
    """What `save_attention` wrote; none where there is no file."""
    from safetensors import safe_open

    if not (folder / FILE_NAME).is_file():
        return []
    with safe_open(folder / FILE_NAME, "np") as file:
        texts: list[dict[str, Any]] = json.loads(file.metadata()["clips"])
        return [
            AttentionClip(**text, weights=file.get_tensor(f"weights.{row}"), level=file.get_tensor(f"level.{row}"))
            for row, text in enumerate(texts)
        ]


def _groups(task: Task, predictions: Predictions) -> dict[str, list[int]]:
    """{class, or third of the values: rows}, of the labelled ones."""
    truth, known = predictions.targets[task.name], np.flatnonzero(predictions.known(task))
    if task.kind == "classification":
        return {label: [int(row) for row in known if truth[row] == number] for number, label in enumerate(task.labels)}
    ranked = known[np.argsort(truth[known], kind="stable")]
    return {name: part.tolist() for name, part in zip(THIRDS, np.array_split(ranked, 3), strict=True)}


def _level(utterance: Utterance) -> np.ndarray:
    try:
        samples = read_audio(utterance.path, 16_000, utterance.start, utterance.end).abs().numpy()  # (N,)
    except AudioError:
        return np.zeros(0, dtype=np.float16)
    peaks = np.array([segment.max() for segment in np.array_split(samples, min(BINS, len(samples)))])
    return np.asarray(peaks / max(float(peaks.max()), 1e-9), dtype=np.float16)
