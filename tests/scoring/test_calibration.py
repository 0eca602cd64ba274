"""Temperature and threshold against a search by hand; what they do on test is reported as it is."""

from __future__ import annotations

import numpy as np
import pytest

from undertone.downstream.task import Task
from undertone.scoring.calibration import (
    calibrate,
    combined,
    fit_temperature,
    report,
    scaled,
    unsure_threshold,
)
from undertone.scoring.metrics import ece
from undertone.scoring.predictions import Predictions

TASKS = (Task("emotion", "classification", ("a", "b", "c")), Task("value", "regression", ("value",)))


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def drawn(count, seed, sharpness):
    """Classes drawn from known probabilities, of which the model states `sharpness` times the logits."""
    random = np.random.default_rng(seed)
    logits = random.standard_normal((count, 3)) * 1.5
    target = np.array([random.choice(3, p=row) for row in softmax(logits)])
    return target, softmax(sharpness * logits)


def predictions(target, scores):
    count = len(target)
    return Predictions(
        TASKS,
        [str(number) for number in range(count)],
        ["f"] * count,
        ["s"] * count,
        [None] * count,
        {"emotion": scores.astype(np.float32), "value": np.zeros((count, 1), np.float32)},
        {"emotion": target, "value": np.full(count, np.nan, np.float32)},
    )


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 4.0])
def test_the_temperature_is_the_one_that_was_applied(sharpness):
    target, scores = drawn(4000, 0, sharpness)
    temperature = fit_temperature(target, scores)
    assert temperature == pytest.approx(sharpness, rel=0.08)
    grid = np.exp(np.linspace(np.log(0.1), np.log(10), 400))
    losses = [-np.log(scaled(scores, one)[np.arange(len(target)), target]).mean() for one in grid]
    assert temperature == pytest.approx(grid[int(np.argmin(losses))], rel=0.03)


def test_a_few_utterances_that_are_all_right_do_not_make_certain():
    """By hand: of N right ones, all of confidence p, the best calibrated confidence is (N + 1) / (N + C)."""
    scores = np.tile(np.array([0.8, 0.1, 0.1]), (10, 1))
    temperature = fit_temperature(np.zeros(10, np.int64), scores)
    assert scaled(scores, temperature)[0, 0] == pytest.approx(11 / 13, abs=1e-3)


def test_scaling_is_of_logits_and_keeps_every_label():
    logits = np.random.default_rng(1).standard_normal((50, 3))
    np.testing.assert_allclose(scaled(softmax(logits), 2.5), softmax(logits / 2.5), atol=1e-9)
    assert (scaled(softmax(logits), 7.0).argmax(1) == logits.argmax(1)).all()
    assert np.isfinite(scaled(np.array([[1.0, 0.0]], np.float32), 0.05)).all()


def test_the_threshold_costs_least_of_all():
    target, scores = drawn(500, 2, 1.0)
    threshold = unsure_threshold(target, scores)
    confidence, wrong = scores.max(1), scores.argmax(1) != target

    def cost(level):
        return wrong[confidence >= level].sum() + 0.5 * (confidence < level).sum()

    assert cost(threshold) == min(cost(level) for level in [0, *np.unique(confidence), 1.1])
    assert 0.4 < threshold < 0.6  # the probabilities are true ones: wrong more often than right is below one half


def test_a_model_that_is_always_right_is_never_unsure_and_one_that_is_wrong_always():
    scores = softmax(np.random.default_rng(3).standard_normal((40, 3)))
    assert unsure_threshold(scores.argmax(1), scores) == 0.0
    assert unsure_threshold((scores.argmax(1) + 1) % 3, scores) > scores.max()


def test_calibration_learned_on_dev_holds_on_test():
    dev, test = predictions(*drawn(2000, 4, 3.0)), predictions(*drawn(2000, 5, 3.0))
    calibrations = calibrate(dev)
    assert list(calibrations) == ["emotion"] and calibrations["emotion"]["num_dev"] == 2000
    found = report([(test, calibrations), (test, calibrations)], TASKS)["emotion"]
    scores, target = test.scores["emotion"], test.targets["emotion"]
    assert found["ece_before"] == pytest.approx(ece(target, scores), abs=1e-6)
    after = softmax(np.log(scores.astype(float)) / calibrations["emotion"]["temperature"])
    assert found["ece_after"] == pytest.approx(ece(target, after), abs=1e-6)
    assert found["ece_after"] < 0.05 < found["ece_before"]
    sure = after.max(1) >= calibrations["emotion"]["unsure_below"]
    assert found["coverage"] == pytest.approx(sure.mean())
    assert found["accuracy_sure"] == pytest.approx((scores.argmax(1) == target)[sure].mean())
    assert found["accuracy_sure"] > found["accuracy"] and found["num"] == 4000


def test_too_little_dev_calibrates_nothing_and_folds_are_joined_by_their_median():
    assert calibrate(predictions(*drawn(9, 6, 1.0))) == {}
    folds = [
        {"emotion": {"temperature": t, "unsure_below": u, "num_dev": 30}} for t, u in ((1, 0.2), (3, 0.5), (2, 0.9))
    ]
    assert combined(folds) == {"emotion": {"temperature": 2.0, "unsure_below": 0.5, "num_dev": 90}}
    assert combined([*folds, {}]) == {} == combined([])
    test = predictions(*drawn(30, 7, 1.0))
    assert report([(test, folds[0]), (test, {})], TASKS) == {}
