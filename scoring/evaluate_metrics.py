"""The scores as `evaluate.Metric`s: local classes, so that nothing is looked up on a network.

    UAR(cache_dir=folder, keep_in_memory=True).compute(predictions=[0, 1], references=[0, 0], num_classes=2)

Creating one writes a folder: give `cache_dir` where the Hugging Face home cannot be written. Over several processes
gather the predictions first and compute on the first one. `compute` below does all of that for a list of names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import evaluate
import numpy as np
from datasets import Features, Value
from datasets import Sequence as ListOf

from undertone.scoring import metrics

_CLASSES = Features({"predictions": Value("int64"), "references": Value("int64")})
_VALUES = Features({"predictions": Value("float64"), "references": Value("float64")})
_PROBABILITIES = Features({"predictions": ListOf(Value("float64")), "references": Value("int64")})


class _Metric(evaluate.Metric):
    """An `evaluate.Metric` around one function of `undertone.scoring.metrics`."""

    key: ClassVar[str]
    inputs: ClassVar[Features]
    function: ClassVar[Callable[..., Any]]

    def _info(self) -> evaluate.MetricInfo:
        doc = type(self).function.__doc__ or ""
        return evaluate.MetricInfo(
            description=doc.split("\n", 1)[0], citation="", inputs_description=doc, features=self.inputs
        )

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        value = type(self).function(np.asarray(references), np.asarray(predictions), **options)
        return {self.key: value.tolist() if isinstance(value, np.ndarray) else value}


class UAR(_Metric):
    """Unweighted average recall; `compute(predictions, references, num_classes)`."""

    key, inputs, function = "uar", _CLASSES, staticmethod(metrics.uar)


class WA(_Metric):
    """Share of correct utterances; `compute(predictions, references)`."""

    key, inputs, function = "wa", _CLASSES, staticmethod(metrics.wa)


class MacroF1(_Metric):
    """Mean F1 over the classes; `compute(predictions, references, num_classes)`."""

    key, inputs, function = "macro_f1", _CLASSES, staticmethod(metrics.macro_f1)


class RecallPerClass(_Metric):
    """Recall of each class, a list; `compute(predictions, references, num_classes)`."""

    key, inputs, function = "recall", _CLASSES, staticmethod(metrics.recall_per_class)


class CCC(_Metric):
    """Concordance correlation; `compute(predictions, references)`."""

    key, inputs, function = "ccc", _VALUES, staticmethod(metrics.ccc)


class RMSE(_Metric):
    """Root mean square error; `compute(predictions, references)`."""

    key, inputs, function = "rmse", _VALUES, staticmethod(metrics.rmse)


class ECE(_Metric):
    """Expected calibration error; `compute(predictions, references)` with probabilities as predictions."""

    key, inputs, function = "ece", _PROBABILITIES, staticmethod(metrics.ece)


METRICS: dict[str, type[_Metric]] = {cls.key: cls for cls in (UAR, WA, MacroF1, RecallPerClass, CCC, RMSE, ECE)}


def compute(
    names: Sequence[str], cache_dir: str, *, predictions: np.ndarray, references: np.ndarray, **options: Any
) -> dict[str, Any]:
    """The named metrics of the same predictions: {name: value}. `cache_dir` is written to, nothing else is."""
    loaded = [METRICS[name](cache_dir=cache_dir, keep_in_memory=True) for name in names]
    results = [metric.compute(predictions=predictions, references=references, **options) for metric in loaded]
    return {name: value for result in results for name, value in result.items()}
