"""A corpus' labels in a model's words: explicit mapping, and scoring on some of the labels only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from undertone.discovery import nearest
from undertone.downstream.task import Task
from undertone.training.predictions import Predictions

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance

EMOTION = "emotion"  # what votes are about


def parse_map(text: str) -> dict[str, str]:
    """`joy=happy,anger=angry` -> {corpus' label: model's label}.

    Raises:
        ValueError: a part that is not LABEL=LABEL, or a label that is mapped twice.
    """
    mapping: dict[str, str] = {}
    for part in text.split(","):
        ours, equals, model = (word.strip() for word in part.partition("="))
        if not (ours and equals and model) or "=" in model:
            raise ValueError(f"--map needs CORPUS_LABEL=MODEL_LABEL,... such as joy=happy,anger=angry; got {text!r}.")
        if ours in mapping:
            raise ValueError(f"--map gives {ours!r} of the corpus two labels: {text!r}.")
        mapping[ours] = model
    return mapping


def parse_labels(text: str) -> tuple[str, ...]:
    """`angry, happy` -> (angry, happy)."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def relabel(utterances: Sequence[Utterance], task: Task, mapping: Mapping[str, str]) -> list[Utterance]:
    """The utterances with the task's labels, and votes for them, in the model's words; what is not mapped stays.

    Raises:
        ValueError: the corpus has no such label, or the model has not.
    """
    labels = [utterance.label(task.name) for utterance in utterances]
    present = {str(label) for label in labels if label is not None}
    if task.name == EMOTION:
        present |= {label for utterance in utterances for label in utterance.votes or {}}
    for ours, model in mapping.items():
        turned = " Is it the other way round?" if ours in task.labels and model in present else ""
        for word, known, owner in ((ours, present, "corpus"), (model, task.labels, "model")):
            if word not in known:
                raise ValueError(
                    f"--map {ours}={model}: the {owner} has no {task.name} {word!r}.{turned}{nearest(word, known)}"
                )
    renamed = [
        utterance.with_label(task.name, mapping[str(label)]) if str(label) in mapping else utterance
        for utterance, label in zip(utterances, labels, strict=True)
    ]
    if task.name != EMOTION:
        return renamed
    return [replace(utterance, votes=_rename(utterance.votes, mapping)) for utterance in renamed]


def _rename(votes: Mapping[str, float] | None, mapping: Mapping[str, str]) -> dict[str, float] | None:
    """The votes under the model's labels; those for several labels that become one add up."""
    if votes is None:
        return None
    named: Counter[str] = Counter()
    for label, count in votes.items():
        named[mapping.get(label, label)] += count  # type: ignore[assignment]  # a share of a rater counts too
    return dict(named)


def restrict(predictions: Predictions, task: Task, labels: Sequence[str]) -> Predictions:
    """Score one task on some of its labels: other targets are missing, and the probabilities are of these alone.

    Raises:
        ValueError: a label that the model has not, or fewer than two.
    """
    for label in labels:
        if label not in task.labels:
            raise ValueError(f"--labels: the model has no {task.name} {label!r}.{nearest(label, task.labels)}")
    kept = [index for index, label in enumerate(task.labels) if label in labels]
    if len(kept) < 2:
        raise ValueError(f"--labels needs two labels or more of {', '.join(task.labels)}; got {', '.join(labels)}.")
    scores = predictions.scores[task.name][:, kept]  # (N, K)
    total = np.maximum(scores.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)  # (N, 1), never 0
    place = np.full(len(task.labels) + 1, -1)  # the last one is that of a missing target, -1
    place[kept] = np.arange(len(kept))
    fewer = replace(task, labels=tuple(task.labels[index] for index in kept))
    return replace(
        predictions,
        tasks=tuple(fewer if one.name == task.name else one for one in predictions.tasks),
        scores={**predictions.scores, task.name: scores / total},
        targets={**predictions.targets, task.name: place[predictions.targets[task.name]]},
    )
