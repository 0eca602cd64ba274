"""The metrics of a task as one `evaluate.Metric`: a local class, so that nothing is looked up on the network.

    metric = ScoreMetric("regression", cache_dir=folder, keep_in_memory=True)
    metric.compute(predictions=[0.1, 0.3], references=[0.0, 0.5])  # {"ccc": ..., "rmse": ...}

One for all of a task's metrics, because `evaluate` writes what it is given into a data set, and hashes that, at each
`compute`. Creating one writes into a folder: give `cache_dir` where the Hugging Face home is read-only. With several
processes gather the predictions first and compute on the first process.
"""

from __future__ import annotations

from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value
from datasets import Sequence as ListOf

from undertone.scoring import metrics

INPUTS = {
    "classification": Features(
        {"predictions": Value("int64"), "probabilities": ListOf(Value("float64")), "references": Value("int64")}
    ),
    "regression": Features({"predictions": Value("float64"), "references": Value("float64")}),
}
"""Kind of task -> what `compute` takes of each utterance; for a classification also `num_classes`, of all."""


class ScoreMetric(evaluate.Metric):
    """All metrics of a kind of task, "classification" or "regression"; see `undertone.scoring.metrics`."""

    def __init__(self, kind: str, **options: Any) -> None:
        self.kind = kind
        super().__init__(config_name=kind, **options)

    def _info(self) -> evaluate.MetricInfo:
        doc = metrics.__doc__ or ""
        return evaluate.MetricInfo(description=doc, citation="", inputs_description=doc, features=INPUTS[self.kind])

    def _compute(self, predictions: Any, references: Any, **more: Any) -> dict[str, Any]:
        target, predicted = np.asarray(references), np.asarray(predictions)  # (N,)
        if self.kind == "regression":
            return {"ccc": metrics.ccc(target, predicted), "rmse": metrics.rmse(target, predicted)}
        num_classes = more["num_classes"]
        return {
            "uar": metrics.uar(target, predicted, num_classes),
            "macro_f1": metrics.macro_f1(target, predicted, num_classes),
            "recall": metrics.recall_per_class(target, predicted, num_classes).tolist(),
            "wa": metrics.wa(target, predicted),
            "ece": metrics.ece(target, np.asarray(more["probabilities"])),
        }
