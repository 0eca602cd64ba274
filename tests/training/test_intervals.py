from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from undertone.downstream.task import Task
from undertone.training import intervals
from undertone.training.intervals import confidence_intervals, draws
from undertone.training.metrics import ccc, macro_f1, uar, wa
from undertone.training.predictions import Predictions

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


def slow_intervals(predictions: Predictions, members: list[np.ndarray], level: float, seed: int) -> dict:
    """Resample by repeating utterances and scoring each resample from scratch with the plain functions."""
    tail = (1 - level) / 2
    found: dict[str, dict[str, list[float]]] = {}
    for task in predictions.tasks:
        values: dict[str, list[float]] = {}
        for counts in draws(np.random.default_rng(seed), len(members), 60):
            rows = np.concatenate([np.tile(rows, count) for rows, count in zip(members, counts, strict=True)])
            sample = predictions.select(rows)
            known = sample.known(task)
            x, y = sample.targets[task.name][known], sample.predicted(task)[known]
            scores = (
                {"ccc": ccc(x, y)}
                if task.kind == "regression"
                else {"uar": uar(x, y, 3), "wa": wa(x, y), "macro_f1": macro_f1(x, y, 3)}
            )
            for name, value in scores.items():
                values.setdefault(name, []).append(value)
        found[task.name] = {n: list(np.nanquantile(v, [tail, 1 - tail])) for n, v in values.items()}
    return found


@pytest.mark.parametrize("block", [4_000_000, 100])
@pytest.mark.parametrize(("num_speakers", "unit"), [(8, "speaker"), (7, "utterance")])
def test_intervals_are_those_of_the_slow_loop(
    num_speakers: int, unit: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "_BLOCK", block)
    predictions = predictions_of(num_speakers)
    names = np.array(predictions.speakers)
    members = [np.array([i]) for i in range(len(predictions))]
    if unit == "speaker":
        members = [np.flatnonzero(names == name) for name in sorted(set(names))]
    fast, found_unit = confidence_intervals(predictions, level=0.8, num_resamples=60, seed=4)
    assert found_unit == unit
    for task, metrics in slow_intervals(predictions, members, 0.8, 4).items():
        assert set(fast[task]) == set(metrics)
        for name, interval in metrics.items():
            np.testing.assert_allclose(fast[task][name], interval, atol=1e-9)


def test_one_unknown_speaker_means_utterances() -> None:
    predictions = predictions_of(10)
    assert confidence_intervals(predictions)[1] == "speaker"
    speakers = [None, *predictions.speakers[1:]]
    assert confidence_intervals(replace(predictions, speakers=speakers))[1] == "utterance"


def test_interval_holds_the_value_and_depends_on_the_seed_alone() -> None:
    predictions = predictions_of(12)
    known = predictions.known(EMOTION)
    value = uar(predictions.targets["emotion"][known], predictions.predicted(EMOTION)[known], 3)
    low, high = confidence_intervals(predictions)[0]["emotion"]["uar"]
    assert low < value < high
    assert confidence_intervals(predictions) == confidence_intervals(predictions)
    assert confidence_intervals(predictions, seed=1) != confidence_intervals(predictions)
    wide = confidence_intervals(predictions, level=0.99)[0]["emotion"]["uar"]
    assert wide[0] < low
    assert wide[1] > high


def test_speakers_that_differ_make_the_interval_wider_than_utterances_do() -> None:
    predictions = predictions_of(8)
    speakers: list[str | None] = [f"s{i}" for i in range(len(predictions))]
    (low, high), (lone_low, lone_high) = (
        confidence_intervals(some)[0]["arousal"]["ccc"]
        for some in (predictions, replace(predictions, speakers=speakers))
    )
    assert high - low > lone_high - lone_low


def test_nothing_to_score_is_nan() -> None:
    predictions = predictions_of(8)
    blank = predictions.select(predictions.targets["emotion"] < 0)
    assert all(math.isnan(value) for value in confidence_intervals(blank)[0]["emotion"]["uar"])
    none = predictions.select(np.array([], int))
    assert all(math.isnan(value) for value in confidence_intervals(none)[0]["arousal"]["ccc"])


@pytest.mark.parametrize("options", [{"level": 1.0}, {"level": 0.0}, {"num_resamples": 0}])
def test_bad_options_are_a_sentence(options: dict) -> None:
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\) and num_resamples >= 1"):
        confidence_intervals(predictions_of(8), **options)
