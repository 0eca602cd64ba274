"""The metrics as `evaluate.Metric`s: local classes, so that nothing is looked up on the network.

    ScoreMetric("uar", cache_dir=folder, keep_in_memory=True).compute(predictions=[0], references=[0], num_classes=2)

Creating one writes into a folder: give `cache_dir` where the Hugging Face home is read-only. With several processes
gather the predictions first and compute on the first process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value
from datasets import Sequence as ListOf

from undertone.scoring import metrics

_CLASSES = Features({"predictions": Value("int64"), "references": Value("int64")})
_VALUES = Features({"predictions": Value("float64"), "references": Value("float64")})
_PROBABILITIES = Features({"predictions": ListOf(Value("float64")), "references": Value("int64")})

METRICS: dict[str, tuple[Callable[..., Any], Features]] = {
    "uar": (metrics.uar, _CLASSES),
    "wa": (metrics.wa, _CLASSES),
    "macro_f1": (metrics.macro_f1, _CLASSES),
    "recall": (metrics.recall_per_class, _CLASSES),
    "ccc": (metrics.ccc, _VALUES),
    "rmse": (metrics.rmse, _VALUES),
    "ece": (metrics.ece, _PROBABILITIES),
}
"""Name -> the function of `undertone.scoring.metrics`, and the types of `predictions` and `references`."""


class ScoreMetric(evaluate.Metric):
    """The metric of a name in `METRICS`; `compute` also takes the function's options, such as `num_classes`."""

    def __init__(self, metric: str, **options: Any) -> None:
        self.key = metric
        self.function, self.inputs = METRICS[metric]
        super().__init__(config_name=metric, **options)

    def _info(self) -> evaluate.MetricInfo:
        doc = self.function.__doc__ or ""
        return evaluate.MetricInfo(
            description=doc.split("\n", 1)[0], citation="", inputs_description=doc, features=self.inputs
        )

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        value: Any = self.function(np.asarray(references), np.asarray(predictions), **options)
        return {self.key: value.tolist() if isinstance(value, np.ndarray) else value}


def compute(
    names: Sequence[str], cache_dir: str, *, predictions: np.ndarray, references: np.ndarray, **options: Any
) -> dict[str, Any]:
    """The named metrics of the same predictions: {name: value}. Only `cache_dir` is written to."""
    loaded = [ScoreMetric(name, cache_dir=cache_dir, keep_in_memory=True) for name in names]
    results = [metric.compute(predictions=predictions, references=references, **options) for metric in loaded]
    return {name: value for result in results for name, value in result.items()}
