from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from undertone.downstream.task import Task
from undertone.training import paired as module
from undertone.training.intervals import draws
from undertone.training.metrics import ccc, uar
from undertone.training.paired import holm, paired
from undertone.training.predictions import Predictions

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
AROUSAL = Task("arousal", "regression", ("arousal",))


def a_run(seed: int, skill: float = 0.3, num_speakers: int = 9, size: int = 90) -> Predictions:
    """Targets are the same whatever the seed; what is said of them is not."""
    truth, said = np.random.default_rng(0), np.random.default_rng([seed, 7])
    target, arousal = truth.integers(0, 3, size), truth.random(size).astype(np.float32)
    target[:4], arousal[5:9] = -1, np.nan
    scores = said.dirichlet([1, 1, 1], size) + skill * np.eye(3)[target]
    guess = np.where(np.isnan(arousal), 0.5, arousal) * skill + said.normal(0.3, 0.2, size)
    return Predictions(
        tasks=(EMOTION, AROUSAL),
        ids=[f"u{i}" for i in range(size)],
        folds=["one"] * size,
        speakers=[f"s{i % num_speakers}" for i in range(size)],
        genders=[None] * size,
        scores={
            "emotion": (scores / scores.sum(1, keepdims=True)).astype(np.float32),
            "arousal": guess.astype(np.float32)[:, None],
        },
        targets={"emotion": target, "arousal": arousal},
    )


def metric(task: Task, target: np.ndarray, said: np.ndarray) -> float:
    return ccc(target, said) if task.kind == "regression" else uar(target, said, 3)


def slow(first: Predictions, second: Predictions, task: Task, seed: int, exchanges: list[np.ndarray]):
    """Difference, interval of 50 resamples and p, by repeating and exchanging utterances."""
    known = first.known(task)
    target, said = first.targets[task.name][known], [run.predicted(task)[known] for run in (first, second)]
    speakers = np.array(first.speakers)[known]
    names = sorted(set(first.speakers))

    def difference(rows: np.ndarray, swapped: np.ndarray) -> float:
        one, two = (np.where(swapped, said[1 - i], said[i])[rows] for i in (0, 1))
        return metric(task, target[rows], two) - metric(task, target[rows], one)

    rows, nobody = np.arange(len(target)), np.zeros(len(target), bool)
    resampled = []
    for counts in draws(np.random.default_rng(seed), len(names), 50):
        repeated = [np.tile(np.flatnonzero(speakers == name), count) for name, count in zip(names, counts, strict=True)]
        resampled.append(difference(np.concatenate(repeated), nobody))
    seen = difference(rows, nobody)
    exchanged = [
        difference(rows, np.isin(speakers, [name for name, swap in zip(names, exchange, strict=True) if swap]))
        for exchange in exchanges
    ]
    return seen, np.quantile(resampled, [0.025, 0.975]), sum(abs(value) >= abs(seen) - 1e-12 for value in exchanged)


@pytest.mark.parametrize("task", [EMOTION, AROUSAL], ids=lambda task: task.name)
def test_all_exchanges_are_those_of_the_slow_loop(task: Task) -> None:
    first, second = a_run(1), a_run(2, skill=0.42)
    found = paired(first, second, task, num_resamples=50, seed=3)
    difference, interval, as_large = slow(first, second, task, 3, list(product((0, 1), repeat=9)))
    assert found.difference == pytest.approx(difference)
    assert found.ci95 == pytest.approx(interval)
    assert (found.exact, found.num_units, found.p_unit, found.ci_unit) == (True, 9, "speaker", "speaker")
    assert found.p == as_large / 2**9
    assert 2 / 2**9 < found.p < 1


def test_random_exchanges_are_those_of_the_slow_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 600)
    first, second = a_run(1, num_speakers=15), a_run(2, num_speakers=15)
    found = paired(first, second, EMOTION, num_permutations=200, num_resamples=50, seed=3)
    rng = np.random.default_rng(3)
    exchanges = [row for size in (40,) * 5 for row in rng.integers(0, 2, (size, 15))]
    assert not found.exact
    assert found.p == (slow(first, second, EMOTION, 3, exchanges)[2] + 1) / 201


def test_each_speaker_has_the_metric_of_its_own_utterances() -> None:
    first, second = a_run(1), a_run(2)
    found = paired(first, second, EMOTION).speakers
    assert [name for name, *_ in found] == sorted(set(first.speakers))
    rows = np.array(first.speakers) == "s3"
    for run, value in zip((first, second), found[3][1:], strict=True):
        part = run.select(rows & run.known(EMOTION))
        assert value == pytest.approx(uar(part.targets["emotion"], part.predicted(EMOTION), 3))


@pytest.mark.parametrize("task", [EMOTION, AROUSAL], ids=lambda task: task.name)
def test_a_run_does_not_differ_from_itself(task: Task) -> None:
    run = a_run(1)
    shuffled = run.select(np.random.default_rng(0).permutation(len(run)))
    found = paired(run, shuffled, task)
    assert (found.difference, found.p, found.ci95) == (0.0, 1.0, [0.0, 0.0])


def test_exchanging_the_runs_turns_the_sign_and_keeps_p() -> None:
    one, other = paired(a_run(1), a_run(2, 0.5), EMOTION), paired(a_run(2, 0.5), a_run(1), EMOTION)
    assert one.difference == pytest.approx(-other.difference)
    assert one.p == other.p
    assert one.ci95 == pytest.approx([-end for end in reversed(other.ci95)])


def test_several_seeds_count_as_one_run_of_their_mean() -> None:
    first, second = a_run(1), a_run(2)
    doubled = Predictions.concat([second, second])
    once, twice = paired(first, second, EMOTION), paired(first, doubled, EMOTION)
    assert (twice.difference, twice.p, twice.num_units) == (pytest.approx(once.difference), once.p, 9)
    assert twice.ci95 == pytest.approx(once.ci95)
    third = a_run(3)
    mean = (second, third)
    both = paired(first, Predictions.concat(mean), EMOTION)
    assert both.value == pytest.approx(np.mean([paired(first, run, EMOTION).value for run in mean]))


def test_few_speakers_are_exchanged_whole_and_unknown_ones_by_utterance() -> None:
    found = paired(a_run(1, num_speakers=4), a_run(2, num_speakers=4), EMOTION)
    assert (found.ci_unit, found.p_unit, found.num_units) == ("utterance", "speaker", 4)
    assert found.p * 16 == round(found.p * 16) >= 2
    one, other = (replace(a_run(seed), speakers=[None] * 90) for seed in (1, 2))
    found = paired(one, other, EMOTION)
    assert (found.p_unit, found.num_units, found.speakers, found.exact) == ("utterance", 90, [], False)


def test_under_the_null_p_is_about_uniform() -> None:
    """400 pairs of equally good runs: p <= x in about a share x of them."""
    p = np.array([paired(a_run(2 * i), a_run(2 * i + 1), AROUSAL, num_resamples=1).p for i in range(400)])
    for level in (0.05, 0.2, 0.5, 0.8):
        assert abs(np.mean(p <= level) - level) < 4 * np.sqrt(level * (1 - level) / len(p))


def test_a_better_run_is_found() -> None:
    found = paired(a_run(1, 0.1), a_run(2, 0.8), EMOTION)
    assert found.difference > 0.2
    assert found.p <= 0.01
    assert found.ci95[0] > 0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_rows_over_time_are_no_seeds() -> None:
    """One recording a speaker, ten times in each: all have a CCC, and a second seed of the same changes nothing."""
    over_time = replace(AROUSAL, level="frame")
    tens = [str(row // 10) for row in range(90)]
    first, second = (
        replace(a_run(seed), tasks=(EMOTION, over_time), ids=tens, speakers=[f"s{ten}" for ten in tens])
        for seed in (1, 2)
    )
    found = paired(first, second, over_time)
    for place, (name, *values) in enumerate(found.speakers):
        rows = (np.array(tens) == name[1:]) & first.known(over_time)
        expected = [ccc(run.targets["arousal"][rows], run.scores["arousal"][rows, 0]) for run in (first, second)]
        assert name == f"s{place}" and values == pytest.approx(expected)
    twice = paired(first, Predictions.concat([second, second]), over_time)
    assert (twice.p, twice.value, twice.ci95) == (found.p, pytest.approx(found.value), pytest.approx(found.ci95))
    assert [row[2] for row in twice.speakers] == pytest.approx([row[2] for row in found.speakers])
