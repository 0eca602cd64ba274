"""Calibration on dev: a temperature for each task, and the confidence below which a prediction is unsure.

Both are learned from predictions of dev utterances that the model was not trained on, and reported on test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from undertone.downstream.task import Task
from undertone.scoring.metrics import ece
from undertone.scoring.predictions import Predictions

FEWEST = 10  # dev utterances with a label; fewer say nothing about confidence
_RANGE = (0.05, 20.0)  # of a temperature
_SMALLEST = 1e-12  # a probability that was rounded to 0


Calibrations = Mapping[str, Mapping[str, Any]]
"""{task: what dev says about its confidence}: `temperature`, by which the logits are divided; `unsure_below`, the
calibrated probability of the predicted class below which a prediction is unsure; `num_dev`, the labelled dev utterances
that both were learned from."""


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """(N, C) probabilities of logits divided by a temperature: p^(1/T), normalised. The order of classes stays."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST)) / temperature  # (N, C)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(target: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature, 0.05 to 20, with the least cross-entropy (Guo et al. 2017, section 4.2).

    The true class has the target (N + 1) / (N + C), the others 1 / (N + C) (Platt 1999, "Probabilistic outputs for
    support vector machines"): a few dev utterances that are all right would otherwise ask for the smallest temperature.

    Args:
        target: (N,) class indices.
        probabilities: (N, C), uncalibrated.
    """
    from scipy.optimize import minimize_scalar

    count, classes = probabilities.shape
    wanted = np.full((count, classes), 1 / (count + classes))
    wanted[np.arange(count), target] += count / (count + classes)  # (N, C)

    def loss(log_temperature: float) -> float:
        found = scaled(probabilities, float(np.exp(log_temperature)))  # (N, C)
        return float(-(wanted * np.log(np.maximum(found, _SMALLEST))).sum(axis=1).mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(_RANGE)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def unsure_threshold(target: np.ndarray, probabilities: np.ndarray) -> float:
    """The confidence below which predictions are wrong more often than right.

    Of all points on the risk-coverage curve, the one with the least cost, an error costing 1 and a rejected prediction
    1/2 (Chow 1970, "On optimum recognition error and reject tradeoff"); of equals the one that keeps more. 0: nothing
    is rejected.

    Args:
        target: (N,) class indices.
        probabilities: (N, C), calibrated.
    """
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != target  # (N,), (N,)
    levels = np.unique(confidence)  # kept: confidence >= level
    order = np.argsort(confidence, kind="stable")
    below = np.searchsorted(confidence[order], [*levels, np.inf], side="left")  # rejected at each level
    errors_below = np.concatenate([[0], np.cumsum(wrong[order])])[below]
    costs = 0.5 * below - errors_below  # (K + 1,) the errors that are kept, but for the constant of all of them
    best = int(np.argmin(costs))
    if best == 0:
        return 0.0
    upper = levels[best] if best < len(levels) else 1.0
    return float((levels[best - 1] + upper) / 2)


def calibrate(dev: Predictions) -> dict[str, dict[str, Any]]:
    """The `Calibrations` of each classification with at least 10 labelled dev utterances; none for the others."""
    found = {task.name: calibration(task, dev.targets[task.name], dev.scores[task.name]) for task in dev.tasks}
    return {name: own for name, own in found.items() if own}


def calibration(task: Task, target: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """That of one task; empty where it has none, see `calibrate`.

    Args:
        task: of any kind.
        target: (N,) class indices, -1 = missing; or values.
        probabilities: (N, C), uncalibrated, of utterances that the model was not trained on.
    """
    if task.kind != "classification" or (known := target >= 0).sum() < FEWEST:
        return {}
    target, probabilities = target[known], probabilities[known]
    temperature = fit_temperature(target, probabilities)
    threshold = unsure_threshold(target, scaled(probabilities, temperature))
    return {"temperature": temperature, "unsure_below": threshold, "num_dev": len(target)}


def combined(folds: Sequence[Calibrations]) -> dict[str, dict[str, Any]]:
    """The calibration of the model of all speakers: medians over the folds, as of its best step.

    A task that a fold lacks has none.
    """
    tasks = [task for task in (folds[0] if folds else ()) if all(task in fold for fold in folds)]
    return {
        task: {
            "temperature": float(np.median([fold[task]["temperature"] for fold in folds])),
            "unsure_below": float(np.median([fold[task]["unsure_below"] for fold in folds])),
            "num_dev": sum(fold[task]["num_dev"] for fold in folds),
        }
        for task in tasks
    }


def report(folds: Sequence[tuple[Predictions, Calibrations]], tasks: Sequence[Task]) -> dict[str, dict[str, Any]]:
    """What calibration does on test, every fold with what its own dev part gave.

    Args:
        folds: the test predictions of each fold, uncalibrated, and its calibrations.
        tasks: of the run.

    Returns:
        {task: {"ece_before", "ece_after", "accuracy", "coverage": fraction of predictions that are not unsure,
        "accuracy_sure", "num"}} of the classifications that every fold calibrated; NaN where nothing is left.
    """
    found = {}
    for task in tasks:
        if not folds or any(task.name not in calibrations for _, calibrations in folds):
            continue
        targets, before, after, sure = [], [], [], []
        for predictions, calibrations in folds:
            rows, own = predictions.known(task), calibrations[task.name]
            scores = predictions.scores[task.name][rows]
            calibrated = scaled(scores, own["temperature"])
            targets.append(predictions.targets[task.name][rows])
            before.append(scores)
            after.append(calibrated)
            sure.append(calibrated.max(axis=1) >= own["unsure_below"])
        target, raw, kept = np.concatenate(targets), np.concatenate(before), np.concatenate(sure)
        right = raw.argmax(axis=1) == target
        found[task.name] = {
            "ece_before": ece(target, raw),
            "ece_after": ece(target, np.concatenate(after)),
            "accuracy": float(right.mean()) if len(right) else float("nan"),
            "coverage": float(kept.mean()) if len(kept) else float("nan"),
            "accuracy_sure": float(right[kept].mean()) if kept.any() else float("nan"),
            "num": len(target),
        }
    return found
