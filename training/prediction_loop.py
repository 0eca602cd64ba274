"""Predictions of a trained module, and the dev score that selects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from undertone.downstream.head import HeadOutput, task_output
from undertone.downstream.network import Downstream, LiveModel
from undertone.downstream.task import Task
from undertone.scoring.metrics import ccc, macro_f1, uar, wa
from undertone.scoring.predictions import Predictions
from undertone.training.seeding import chunks
from undertone.training.sources import Source
from undertone.training.targets import annotation, at_annotations, scored_targets, scored_task

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance

SELECTING = {True: ("uar", "wa", "macro_f1"), False: ("ccc",)}  # metrics of classes, of values; the first by default


@torch.inference_mode()
def predict_and_embed(
    module: Downstream | LiveModel,
    tasks: tuple[Task, ...],
    source: Source,
    utterances: Sequence[Utterance],
    accelerator: Accelerator,
    batch_size: int,
    fold: str = "",
) -> tuple[Predictions, np.ndarray]:
    """Predictions in the order of the utterances, and their (N, E) float32 embeddings.

    With several processes each utterance is predicted by one of them. With frame-level tasks a row is a time of an
    utterance's annotation, and ids repeat.
    """
    module.eval()
    rank, world = accelerator.process_index, accelerator.num_processes
    by_length = sorted(range(len(utterances)), key=lambda index: (utterances[index].duration, utterances[index].id))
    found: list[tuple[int, dict[str, np.ndarray], np.ndarray]] = []
    for chunk in chunks(by_length[rank::world], batch_size):
        batch = [utterances[index] for index in chunk]
        output = module(source(batch).to(accelerator.device))
        scores, embeddings = _rows(tasks, output, batch), output.embedding.float().cpu().numpy()
        found += [
            (index, {name: rows[row] for name, rows in scores.items()}, embeddings[row])
            for row, index in enumerate(chunk)
        ]
    gathered = sorted(gather_object(found) if world > 1 else found, key=lambda item: item[0])
    owner = [index for index, scores, _ in gathered for _ in scores[tasks[0].name]]  # the utterance of each row
    scores = {task.name: np.concatenate([scores[task.name] for _, scores, _ in gathered]) for task in tasks}
    if tasks[0].level == "frame":
        truth = {task.name: np.concatenate([annotation(task, one)[1] for one in utterances]) for task in tasks}
    else:
        truth = {task.name: scored_targets(task, utterances) for task in tasks}
    predictions = make_predictions(tasks, [utterances[index] for index in owner], scores, truth, fold)
    return predictions, np.stack([embedding for *_, embedding in gathered])[owner]


def _rows(tasks: tuple[Task, ...], output: HeadOutput, utterances: Sequence[Utterance]) -> dict[str, list[np.ndarray]]:
    """{task: (rows, C) scores of each utterance}: one row, or one per time of its annotation."""
    if tasks[0].level == "frame":
        return {task.name: [rows.cpu().numpy() for rows in at_annotations(task, output, utterances)] for task in tasks}
    return {name: list(scores[:, None]) for name, scores in task_scores(tasks, output.logits).items()}


def make_predictions(
    tasks: tuple[Task, ...],
    rows: Sequence[Utterance],
    scores: dict[str, np.ndarray],
    truth: dict[str, np.ndarray],
    fold: str = "",
) -> Predictions:
    """Predictions whose rows are of these utterances; {task: (N, C)} scores and {task: (N,)} targets."""
    return Predictions(
        tasks=tuple(scored_task(task) for task in tasks),
        ids=[item.id for item in rows],
        folds=[fold] * len(rows),
        speakers=[item.speaker for item in rows],
        genders=[item.gender for item in rows],
        scores=scores,
        targets=truth,
    )


def task_scores(tasks: tuple[Task, ...], logits: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """(..., C) logits -> {task: (..., C) float32}: probabilities of a classification, values of a regression."""
    return {task.name: task_output(task, logits[task.name]).cpu().numpy() for task in tasks}


def selecting_metrics(tasks: Sequence[Task], select_by: str | None) -> dict[str, str]:
    """{task: metric} whose mean on dev selects: UAR or CCC of every task, or `select_by` of the first task only."""
    if select_by is None:
        return {task.name: SELECTING[task.has_classes][0] for task in tasks}
    allowed = SELECTING[tasks[0].has_classes]
    if select_by not in allowed:
        raise ValueError(f"select_by={select_by} does not fit task {tasks[0].name!r}; allowed: {', '.join(allowed)}.")
    return {tasks[0].name: select_by}


def metric_of(task: Task, select_by: str | None) -> str:
    """The metric by which a task that shares no weights with others is selected: `select_by` where it has that."""
    allowed = SELECTING[task.has_classes]
    return select_by if select_by in allowed else allowed[0]


def selected_by(
    tasks: Sequence[Task], select_by: str | None, metrics: Mapping[str, Mapping[str, float | None]]
) -> dict[str, str]:
    """Those of `selecting_metrics` that have a value among the dev metrics {task: {metric: value}}."""
    wanted = selecting_metrics(tasks, select_by)
    found = {name: metrics.get(name, {}).get(metric) for name, metric in wanted.items()}
    return {name: wanted[name] for name, value in found.items() if value is not None and not math.isnan(value)}


def selection_score(predictions: Predictions, select_by: str | None) -> tuple[float, dict[str, dict[str, float]]]:
    """The dev score that selects, and the dev metrics of every labelled task.

    It is the metric `select_by` of the first task, or if that is None the mean of UAR (classes) and CCC (values) over
    the tasks where it is defined.
    """
    every = {
        task.name: quick_metrics(task, predictions.targets[task.name], predictions.scores[task.name])
        for task in predictions.tasks
    }
    metrics = {name: values for name, values in every.items() if values}
    used = selected_by(predictions.tasks, select_by, metrics)
    if not used:
        raise nothing_selects(selecting_metrics(predictions.tasks, select_by))
    return float(np.mean([metrics[name][metric] for name, metric in used.items()])), metrics


def nothing_selects(wanted: Mapping[str, str]) -> ValueError:
    """The error where none of these metrics {task: metric} is defined."""
    names = " and ".join(f"{metric} of {name!r}" for name, metric in wanted.items())
    return ValueError(
        f"{names} is not defined on dev, which has no labels, too few, or one value throughout: nothing can be "
        f"selected. Choose other folds (protocol=, num_folds=), or tasks that are labelled there (tasks=)."
    )


def quick_metrics(task: Task, truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """The metrics that can select, over the labelled utterances; empty where there are none.

    Truth (N,) is class indices (-1 missing) or values (NaN missing); scores are (N, C), of any scale, or (N, 1) values.
    """
    labelled = truth >= 0 if task.kind == "classification" else ~np.isnan(truth)
    if not labelled.any():
        return {}
    truth, scores = truth[labelled], scores[labelled]
    if task.kind == "regression":
        return {"ccc": float(ccc(truth, scores[:, 0]))}
    predicted, classes = scores.argmax(1), len(task.labels)
    return {
        "uar": float(uar(truth, predicted, classes)),
        "wa": float(wa(truth, predicted)),
        "macro_f1": float(macro_f1(truth, predicted, classes)),
    }
