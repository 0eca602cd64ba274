from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from undertone.downstream.task import Task
from undertone.scoring.compare import decide, holm, paired
from undertone.scoring.intervals import metrics_of
from undertone.scoring.metrics import ccc, uar
from undertone.scoring.predictions import Predictions

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


def slow(first: Predictions, second: Predictions, task: Task) -> tuple[float, float]:
    """Difference and its standard error, by leaving utterances out and scoring both runs from scratch."""
    known = first.known(task)
    target, said = first.targets[task.name][known], [run.predicted(task)[known] for run in (first, second)]
    speakers, names = np.array(first.speakers)[known], sorted(set(first.speakers))

    def difference(rows: np.ndarray) -> float:
        return metric(task, target[rows], said[1][rows]) - metric(task, target[rows], said[0][rows])

    group = target if task.kind == "classification" else np.zeros(len(target))
    seen, variance = difference(np.ones(len(target), bool)), 0.0
    for speaker in names:
        change = 0.0
        for one in set(group.tolist()):
            out = (group == one) & (speakers == speaker)
            change += np.sqrt(1 - out.sum() / (group == one).sum()) * (seen - difference(~out))
        variance += change**2
    return seen, float(np.sqrt(variance))


@pytest.mark.parametrize("num_speakers", [3, 4, 9])
@pytest.mark.parametrize("task", [EMOTION, AROUSAL], ids=lambda task: task.name)
def test_interval_and_p_are_those_of_the_slow_loop(task: Task, num_speakers: int) -> None:
    first, second = a_run(1, num_speakers=num_speakers), a_run(2, skill=0.42, num_speakers=num_speakers)
    found = paired(first, second, task)
    difference, error = slow(first, second, task)
    assert found.difference == pytest.approx(difference)
    assert found.num_speakers == num_speakers and 1 < found.df <= num_speakers - 1 + 1e-9
    assert found.detectable == pytest.approx(stats.t.ppf(0.975, found.df) * error)
    assert found.ci95 == pytest.approx([difference - found.detectable, difference + found.detectable])
    assert found.p == pytest.approx(2 * stats.t.sf(abs(difference) / error, found.df))


def test_with_as_many_utterances_each_it_is_the_paired_t_test_over_speakers() -> None:
    rng = np.random.default_rng(3)
    correct = rng.integers(0, 9, (6, 2, 3))  # of 8, six speakers, two runs, three classes
    sums = np.zeros((6, 2, 3, 3))
    sums[..., range(3), range(3)] = correct
    sums[..., range(3), [1, 2, 0]] = 8 - correct
    recalls = correct.mean(axis=2) / 8  # (6, 2)
    reach, p, df = decide(sums, metrics_of(EMOTION)["uar"])
    reference = stats.ttest_rel(recalls[:, 1], recalls[:, 0])
    ends = reference.confidence_interval(0.95)
    assert (p, df, reach) == (
        pytest.approx(reference.pvalue),
        pytest.approx(5),
        pytest.approx((ends.high - ends.low) / 2),
    )


@pytest.mark.parametrize("num_speakers", [3, 4, 6, 9])
def test_interval_and_p_decide_alike(num_speakers: int) -> None:
    """Whatever the runs: the interval excludes 0 exactly when p < 0.05, and exactly when it is detectable."""
    decided = set()
    for seed in range(40):
        skill = 0.3 + 0.4 * (seed % 4)
        found = paired(a_run(0, num_speakers=num_speakers), a_run(seed + 1, skill, num_speakers), EMOTION)
        excluded = found.ci95[0] > 0 or found.ci95[1] < 0
        assert excluded == (found.p < 0.05) == (abs(found.difference) > found.detectable)
        decided.add(excluded)
    assert decided == {True, False}  # with four speakers and with three, too


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
    assert (found.difference, found.p, found.ci95, found.note) == (0.0, 1.0, [0.0, 0.0], "")


def test_exchanging_the_runs_turns_the_sign_and_keeps_p() -> None:
    one, other = paired(a_run(1), a_run(2, 0.5), EMOTION), paired(a_run(2, 0.5), a_run(1), EMOTION)
    assert one.difference == pytest.approx(-other.difference)
    assert one.p == pytest.approx(other.p)
    assert one.ci95 == pytest.approx([-end for end in reversed(other.ci95)])


def test_several_seeds_count_as_one_run_of_their_mean() -> None:
    first, second = a_run(1), a_run(2)
    doubled = Predictions.concat([second, second])
    once, twice = paired(first, second, EMOTION), paired(first, doubled, EMOTION)
    assert (twice.difference, twice.p, twice.num_speakers) == (
        pytest.approx(once.difference),
        pytest.approx(once.p),
        9,
    )
    assert twice.ci95 == pytest.approx(once.ci95)
    third = a_run(3)
    mean = (second, third)
    both = paired(first, Predictions.concat(mean), EMOTION)
    assert both.value == pytest.approx(np.mean([paired(first, run, EMOTION).value for run in mean]))


def test_too_few_or_unknown_speakers_decide_nothing() -> None:
    found = paired(a_run(1, num_speakers=2), a_run(2, 0.9, num_speakers=2), EMOTION)
    assert found.difference > 0.1 and math.isnan(found.p) and all(map(math.isnan, found.ci95))
    assert found.note.startswith("No interval for emotion: 2 test speakers cannot show how speakers vary; at least 3")
    found = paired(*(replace(a_run(seed), speakers=[None] * 90) for seed in (1, 2)), EMOTION)
    assert math.isnan(found.p) and found.speakers == [] and "are unknown" in found.note


def test_a_difference_that_is_the_same_for_all_speakers_decides_nothing() -> None:
    sums = np.zeros((4, 2, 2, 2))
    sums[:, 0], sums[:, 1] = [[3, 2], [2, 3]], [[4, 1], [2, 3]]
    reach, p, _ = decide(sums, metrics_of(EMOTION)["uar"])
    assert math.isnan(reach) and math.isnan(p)


def test_under_the_null_p_is_about_uniform() -> None:
    """400 pairs of equally good runs: p <= x in about a fraction x of them."""
    p = np.array([paired(a_run(2 * i), a_run(2 * i + 1), AROUSAL).p for i in range(400)])
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
    unknown = holm([0.03, math.nan, 0.01])
    assert [unknown[0], unknown[2]] == [0.03, 0.02] and math.isnan(unknown[1])


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
    assert (twice.p, twice.value, twice.ci95) == tuple(map(pytest.approx, (found.p, found.value, found.ci95)))
    assert [row[2] for row in twice.speakers] == pytest.approx([row[2] for row in found.speakers])
