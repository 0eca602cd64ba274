"""Pseudo-labels: the threshold by hand, and a training that takes them."""

from __future__ import annotations

import numpy as np
import pytest

from undertone.downstream.task import Task
from undertone.experiments.pseudo_labels import confident, labelled_task


def test_the_threshold_is_the_lowest_that_reaches_the_precision() -> None:
    confidence = np.array([0.6, 0.95, 0.7, 0.9, 0.8])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    truth = np.array([1, 0, 0, 0, 1])  # from the surest on: right, right, wrong, right, wrong
    assert confident(probabilities, truth, 1.0 - 1e-9) == pytest.approx(0.9)
    assert confident(probabilities, truth, 0.75) == pytest.approx(0.7)  # 3 of 4
    assert confident(probabilities, truth, 0.6) == pytest.approx(0.6)  # 3 of 5
    assert confident(probabilities, 1 - np.zeros(5, np.int64), 0.5) is None
    with pytest.raises(ValueError, match="needs a task with classes"):
        labelled_task((Task("arousal", "regression", ("arousal",)),))
