"""The scores of a run on several corpora, of each corpus apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from undertone.scoring.intervals import confidence_intervals
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import MAIN, METRICS, interval_text, number, score

OF_CORPUS = ("corpus", "language")  # tasks with one class in each corpus


def per_corpus(predictions: Predictions, corpora: Mapping[str, str]) -> dict[str, Any]:
    """{corpus: {scores, ci95, num_speakers}} of the test utterances of each corpus, given {id: corpus}; {} of one."""
    of_row, rest = np.array([corpora[name] for name in predictions.ids]), predictions.without(OF_CORPUS)
    if len(set(of_row)) < 2 or not rest.tasks:
        return {}
    return {str(corpus): scores_and_intervals(rest.select(of_row == corpus)) for corpus in np.unique(of_row)}


def scores_and_intervals(predictions: Predictions) -> dict[str, Any]:
    """`scores` {task: metrics}, `ci95` {task: {metric: [low, high]}} over speakers, and `num_speakers`."""
    intervals, _ = confidence_intervals(predictions)
    speakers = {speaker for speaker in predictions.speakers if speaker is not None}
    return {"scores": score(predictions), "ci95": intervals, "num_speakers": len(speakers)}


def corpus_table(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of each corpus' main metrics, pooled over the folds; no rows for a single corpus."""
    kinds = {task["name"]: task["kind"] for task in results["tasks"]}
    rows = []
    for corpus, found in results.get("per_corpus", {}).items():
        for task, scores in found["scores"].items():
            for metric in MAIN[kinds[task]]:
                interval = interval_text(found, task, metric) or "–"
                shown = number(metric, scores[metric])
                rows.append([corpus, task, METRICS[metric], shown, interval, str(scores["num"])])
    return ["Corpus", "Task", "Metric", "Pooled", "95 % interval", "Utterances"], rows
