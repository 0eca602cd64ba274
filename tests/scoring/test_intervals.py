from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from undertone.downstream.task import Task
from undertone.scoring.intervals import (
    confidence_intervals,
    interval,
    metrics_of,
    speaker_sums,
    standard_error,
    unit_sums,
)
from undertone.scoring.metrics import ccc, macro_f1, rmse, uar, wa
from undertone.scoring.predictions import Predictions

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
AROUSAL = Task("arousal", "regression", ("arousal",))


def predictions_of(num_speakers: int, size: int = 120) -> Predictions:
    rng = np.random.default_rng(5)
    speakers = np.arange(size) % num_speakers
    arousal = rng.random(size).astype(np.float32)
    skill = 0.5 + speakers / num_speakers  # speakers differ, so that the unit matters
    target = rng.integers(0, 3, size)
    scores = rng.dirichlet([1, 1, 1], size) + 0.4 * skill[:, None] * np.eye(3)[target]
    return Predictions(
        tasks=(EMOTION, AROUSAL),
        ids=[str(i) for i in range(size)],
        folds=["one"] * size,
        speakers=[f"s{speaker}" for speaker in speakers],
        genders=[None] * size,
        scores={
            "emotion": (scores / scores.sum(1, keepdims=True)).astype(np.float32),
            "arousal": (skill[:, None] * arousal[:, None] + rng.normal(0, 0.2, (size, 1))).astype(np.float32),
        },
        targets={
            "emotion": np.where(rng.random(size) < 0.2, -1, target),
            "arousal": np.where(rng.random(size) < 0.2, np.nan, arousal).astype(np.float32),
        },
    )


PLAIN = {
    "uar": lambda target, said: uar(target, said, 3),
    "wa": wa,
    "macro_f1": lambda target, said: macro_f1(target, said, 3),
    "ccc": ccc,
    "rmse": rmse,
}
LINKS = {  # scale, its slope, and back
    "ccc": (np.arctanh, lambda value: 1 / (1 - value**2), np.tanh),
    "rmse": (np.log, lambda value: 1 / value, np.exp),
}
LOGIT = (
    lambda value: np.log(value / (1 - value)),
    lambda value: 1 / (value * (1 - value)),
    lambda x: 1 / (1 + np.exp(-x)),
)


def slow_interval(predictions: Predictions, task: Task, name: str, level: float) -> list[float]:
    """Leave utterances out one group at a time, score the rest from scratch, and form the covariance in full."""
    known = predictions.known(task)
    target, said = predictions.targets[task.name][known], predictions.predicted(task)[known]
    speakers = np.array(predictions.speakers)[known]
    names = sorted(set(predictions.speakers))
    group = target if name in ("uar", "macro_f1") else np.zeros(len(target))
    groups = sorted(set(group.tolist()))
    value, changes = PLAIN[name](target, said), np.zeros(len(names))
    fractions = np.zeros((len(names), len(groups)))
    for column, one in enumerate(groups):
        for row, speaker in enumerate(names):
            out = (group == one) & (speakers == speaker)
            fractions[row, column] = out.sum() / (group == one).sum()
            changes[row] += math.sqrt(1 - fractions[row, column]) * (value - PLAIN[name](target[~out], said[~out]))
    covariance = np.zeros((len(names), len(names)))
    for h in fractions.T:
        maker = np.diag(h / np.sqrt(1 - h)) @ (np.eye(len(names)) - np.outer(np.ones(len(names)), h))
        covariance += maker @ maker.T
    df = np.trace(covariance) ** 2 / np.trace(covariance @ covariance)
    scale, slope, back = LINKS.get(name, LOGIT)
    reach = stats.t.ppf((1 + level) / 2, df) * math.sqrt(np.sum(changes**2)) * slope(value)
    return [back(scale(value) - reach), back(scale(value) + reach)]


@pytest.mark.parametrize("num_speakers", [3, 4, 9])
def test_intervals_are_those_of_the_slow_loop(num_speakers: int) -> None:
    predictions = predictions_of(num_speakers)
    found, notes = confidence_intervals(predictions, level=0.8)
    assert notes == []
    assert {task: list(metrics) for task, metrics in found.items()} == {
        "emotion": ["uar", "wa", "macro_f1"],
        "arousal": ["ccc", "rmse"],
    }
    for task in predictions.tasks:
        for name, ends in found[task.name].items():
            assert ends == pytest.approx(slow_interval(predictions, task, name, 0.8), abs=1e-9), name


def test_with_as_many_utterances_each_it_is_the_t_interval_over_speakers_means() -> None:
    """The textbook case: 4 speakers, 3 classes, 5 utterances of each; no correction is left but n - 1."""
    rng = np.random.default_rng(2)
    correct = rng.integers(1, 5, (4, 3))  # of 5
    sums = np.zeros((4, 3, 3))
    sums[:, range(3), range(3)] = correct
    sums[:, range(3), [1, 2, 0]] = 5 - correct
    means = correct.mean(axis=1) / 5
    error, df = standard_error(sums, metrics_of(EMOTION)["uar"])
    assert (error, df) == (pytest.approx(stats.sem(means)), pytest.approx(3))
    value = means.mean()
    reach = stats.t.ppf(0.975, 3) * stats.sem(means) / (value * (1 - value))
    middle = math.log(value / (1 - value))
    expected = [1 / (1 + math.exp(-(middle + side * reach))) for side in (-1, 1)]
    assert interval(sums, metrics_of(EMOTION)["uar"]) == pytest.approx(expected)


def test_speakers_who_lack_classes_leave_fewer_degrees_of_freedom() -> None:
    """Two of one class and two of the other, as with gender: one degree of freedom in each, not 3."""
    sums = np.zeros((4, 2, 2))
    sums[[0, 1], 0] = [[40, 10], [30, 20]]
    sums[[2, 3], 1] = [[5, 45], [15, 35]]
    error, df = standard_error(sums, metrics_of(EMOTION)["uar"])
    assert df == pytest.approx(2)
    assert error == pytest.approx(math.sqrt(2 * (0.2 / 2) ** 2) / 2)  # the mean of two means of two


def test_what_one_speaker_says_often_does_not_narrow_the_interval() -> None:
    """All utterances twice: speakers are as few as before. A bootstrap over utterances would be narrower by sqrt(2)."""
    predictions = predictions_of(6)
    twice = Predictions.concat([predictions, replace(predictions, ids=[f"{name}b" for name in predictions.ids])])
    for task, metrics in confidence_intervals(predictions)[0].items():
        for name, ends in metrics.items():
            assert confidence_intervals(twice)[0][task][name] == pytest.approx(ends)


def test_why_there_is_no_interval_is_said() -> None:
    few = predictions_of(2)
    found, notes = confidence_intervals(few)
    assert all(math.isnan(end) for metrics in found.values() for ends in metrics.values() for end in ends)
    assert notes == [
        "No interval for emotion: 2 test speakers cannot show how speakers vary; at least 3 are needed.",
        "No interval for arousal: 2 test speakers cannot show how speakers vary; at least 3 are needed.",
    ]
    assert "1 test speaker cannot" in confidence_intervals(replace(few, speakers=["s0"] * len(few)))[1][0]
    nameless = replace(predictions_of(9), speakers=[None, *predictions_of(9).speakers[1:]])
    found, notes = confidence_intervals(nameless)
    assert math.isnan(found["arousal"]["ccc"][0]) and len(notes) == 1
    assert notes[0].startswith("No intervals: they are for new speakers, and the speakers of some test utterances")


def test_a_class_of_one_speaker_has_no_interval_and_the_others_do() -> None:
    predictions = predictions_of(9)
    speakers = np.array(predictions.speakers)
    target = np.where((predictions.targets["emotion"] == 2) & (speakers != "s4"), 0, predictions.targets["emotion"])
    predictions.targets["emotion"][:] = target
    found, notes = confidence_intervals(predictions)
    assert math.isnan(found["emotion"]["uar"][0]) and math.isnan(found["emotion"]["macro_f1"][0])
    assert found["emotion"]["wa"][0] > 0
    assert len(notes) == 1 and "only one test speaker has sad" in notes[0]


def test_speakers_who_score_alike_tell_nothing() -> None:
    """A perfect score is not certain to stay one: no interval of no width."""
    predictions = predictions_of(9)
    predictions.scores["emotion"][:] = np.eye(3)[predictions.targets["emotion"]]
    found, notes = confidence_intervals(predictions)
    assert all(math.isnan(end) for ends in found["emotion"].values() for end in ends)
    assert notes == ["No interval for a score of emotion that is the same for all test speakers."]


def test_the_interval_holds_the_value_stays_in_bounds_and_grows_with_its_level() -> None:
    predictions = predictions_of(4)
    known = predictions.known(EMOTION)
    value = uar(predictions.targets["emotion"][known], predictions.predicted(EMOTION)[known], 3)
    low, high = confidence_intervals(predictions)[0]["emotion"]["uar"]
    wide = confidence_intervals(predictions, level=0.999)[0]["emotion"]["uar"]
    assert 0 < wide[0] < low < value < high < wide[1] < 1


def test_sums_of_speakers_are_in_the_order_of_their_names() -> None:
    predictions = predictions_of(3)
    sums = speaker_sums(predictions, EMOTION)
    for place in range(3):
        own = predictions.select(np.array(predictions.speakers) == f"s{place}")
        assert np.array_equal(sums[place], unit_sums(own, EMOTION, np.zeros(len(own), int), 1)[0])


def test_nothing_to_score_is_nan() -> None:
    predictions = predictions_of(8)
    blank = predictions.select(predictions.targets["emotion"] < 0)
    assert all(math.isnan(value) for value in confidence_intervals(blank)[0]["emotion"]["uar"])
    none = predictions.select(np.array([], int))
    found, notes = confidence_intervals(none)
    assert all(math.isnan(value) for value in found["arousal"]["ccc"])
    assert notes[0] == "No interval for emotion: no test utterance has a label."


@pytest.mark.parametrize("level", [1.0, 0.0])
def test_bad_levels_are_a_sentence(level: float) -> None:
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\), got"):
        confidence_intervals(predictions_of(8), level=level)
