from __future__ import annotations

import doctest
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from undertone.downstream.task import Task
from undertone.scoring import metrics
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import per_gender, score

RNG = np.random.default_rng(3)
RANDOM = [(RNG.integers(0, 5, n), RNG.integers(0, 5, n)) for n in (1, 2, 3, 4, 6, 10, 200)]
ABSENT = [
    (np.array([0, 0, 4]), np.array([0, 1, 4])),  # 2 and 3 nowhere, 1 predicted but never true
    (np.array([2, 2, 2]), np.array([2, 2, 2])),  # one class, all right
    (np.array([2, 2, 2]), np.array([0, 1, 3])),  # one class, all wrong
]


@pytest.mark.parametrize(("target", "predicted"), RANDOM + ABSENT)
def test_classification_scores_are_scikit_learns(target: np.ndarray, predicted: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's notes on absent classes
        uar = sklearn_metrics.balanced_accuracy_score(target, predicted)
        f1 = sklearn_metrics.f1_score(target, predicted, average="macro")
        recall = sklearn_metrics.recall_score(target, predicted, labels=range(5), average=None, zero_division=np.nan)
    confusion = sklearn_metrics.confusion_matrix(target, predicted, labels=range(5))
    np.testing.assert_array_equal(metrics.confusion_matrix(target, predicted, 5), confusion)
    assert metrics.uar(target, predicted, 5) == pytest.approx(uar, abs=1e-12)
    assert metrics.wa(target, predicted) == pytest.approx(sklearn_metrics.accuracy_score(target, predicted))
    assert metrics.macro_f1(target, predicted, 5) == pytest.approx(f1, abs=1e-12)
    np.testing.assert_allclose(metrics.recall_per_class(target, predicted, 5), recall)


def test_hand_computed_classification() -> None:
    target, predicted = [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]
    assert metrics.confusion_matrix(target, predicted, 3).tolist() == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert metrics.uar(target, predicted, 3) == (3 / 4 + 1 / 2) / 2
    assert metrics.wa(target, predicted) == 4 / 6
    assert metrics.macro_f1(target, predicted, 3) == (6 / 8 + 2 / 4) / 2


def test_nothing_to_score_is_nan() -> None:
    assert all(math.isnan(metric([], [], 3)) for metric in (metrics.uar, metrics.macro_f1))
    assert np.isnan(metrics.recall_per_class([], [], 3)).all()
    assert all(math.isnan(metric([], [])) for metric in (metrics.wa, metrics.ccc, metrics.rmse, metrics.ece))


@pytest.mark.parametrize("bad", [[-1, 0], [0, 3], [0.0, 1.0], [[0], [1]], [np.nan, 0]])
def test_what_is_no_class_is_refused(bad: list) -> None:
    with pytest.raises(ValueError, match=r"target must be \(N,\) class indices in 0\.\.2; remove missing ones first"):
        metrics.uar(bad, [0, 1], 3)
    with pytest.raises(ValueError, match=r"predicted must be \(N,\) class indices in 0\.\.C"):
        metrics.wa([0, 1], [0, -1])


def test_lengths_must_agree() -> None:
    for call in (lambda: metrics.wa([0, 1], [0]), lambda: metrics.ccc([0, 1], [0]), lambda: metrics.ece([0], [])):
        with pytest.raises(ValueError, match="Expected one prediction per target"):
            call()


def ccc_by_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Lin's other form: rho times the bias correction factor, 2 / (v + 1 / v + u^2)."""
    v = x.std() / y.std()
    u = (x.mean() - y.mean()) / math.sqrt(x.std() * y.std())
    return np.corrcoef(x, y)[0, 1] * 2 / (v + 1 / v + u * u)


@pytest.mark.parametrize("size", [2, 3, 50, 5000])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.1, 0.3), (1e-3, 1e6)])
def test_ccc_is_lins_other_form(size: int, scale: float, offset: float) -> None:
    x = offset + scale * RNG.standard_normal(size)
    y = offset + scale * (0.7 * (x - offset) / scale + RNG.standard_normal(size) + 0.2)
    assert metrics.ccc(x, y) == pytest.approx(ccc_by_correlation(x, y), rel=1e-6)
    assert metrics.ccc(y, x) == pytest.approx(metrics.ccc(x, y), rel=1e-6)


def test_hand_computed_ccc() -> None:
    # means 1 and 2, variances 2/3 and 8/3, covariance 4/3: (8/3) / (2/3 + 8/3 + 1)
    assert metrics.ccc([0.0, 1.0, 2.0], [0.0, 2.0, 4.0]) == pytest.approx(8 / 13)
    assert metrics.ccc([0.0, 1.0], [1.0, 0.0]) == -1
    assert metrics.ccc([0.1, 0.2, 0.7], [0.1, 0.2, 0.7]) == pytest.approx(1)


def test_ccc_at_its_edges() -> None:
    assert metrics.ccc([0.1, 0.1, 0.1], [0.2, 0.4, 0.9]) == 0
    assert metrics.ccc([0.2, 0.4, 0.9], [0.1, 0.1, 0.1]) == pytest.approx(0, abs=1e-12)
    assert metrics.ccc([0.1, 0.1], [0.3, 0.3]) == pytest.approx(0, abs=1e-12)  # constants, but other ones
    assert math.isnan(metrics.ccc([0.1] * 7, [0.1] * 7))
    assert math.isnan(metrics.ccc([0.1], [0.4]))
    with pytest.raises(ValueError, match=r"target must be \(N,\) finite numbers; remove missing"):
        metrics.ccc([0.1, np.nan], [0.1, 0.2])


def test_rmse_is_scikit_learns() -> None:
    x, y = RNG.standard_normal((2, 40))
    assert metrics.rmse(x, y) == pytest.approx(sklearn_metrics.root_mean_squared_error(x, y))


@pytest.mark.parametrize("num_bins", [1, 4, 15])
def test_ece_bin_by_bin(num_bins: int) -> None:
    probabilities, target = RNG.dirichlet([0.5] * 3, 300), RNG.integers(0, 3, 300)
    total = 0.0
    for b in range(num_bins):
        inside = [i for i, p in enumerate(probabilities.max(1)) if b / num_bins < p <= (b + 1) / num_bins]
        if inside:
            accuracy = np.mean([probabilities[i].argmax() == target[i] for i in inside])
            total += len(inside) / 300 * abs(accuracy - np.mean([probabilities[i].max() for i in inside]))
    assert metrics.ece(target, probabilities, num_bins) == pytest.approx(total)


def test_hand_computed_ece() -> None:
    certain = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    assert metrics.ece([0, 0, 1, 1], certain) == 0
    assert metrics.ece([1, 1, 0, 0], certain) == 1
    unsure = [[0.6, 0.4]] * 3 + [[0.1, 0.9]]
    assert metrics.ece([0, 1, 1, 1], unsure) == pytest.approx(0.75 * (0.6 - 1 / 3) + 0.25 * 0.1)
    with pytest.raises(ValueError, match=r"numbers in \[0, 1\]"):
        metrics.ece([0], [[1.5, -0.5]])


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(metrics)
    assert results.attempted >= 8
    assert results.failed == 0


EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
GENDER = Task("gender", "classification", ("female", "male"))
AROUSAL = Task("arousal", "regression", ("arousal",))


def random_predictions(size: int = 80) -> Predictions:
    gender = RNG.integers(0, 2, size)
    arousal = RNG.random(size).astype(np.float32)
    return Predictions(
        tasks=(EMOTION, GENDER, AROUSAL),
        ids=[str(i) for i in range(size)],
        folds=["one"] * size,
        speakers=["x"] * size,
        genders=[None if i % 10 == 0 else GENDER.labels[g] for i, g in enumerate(gender)],
        scores={
            "emotion": RNG.dirichlet([1, 1, 1], size).astype(np.float32),
            "gender": RNG.dirichlet([1, 1], size).astype(np.float32),
            "arousal": (arousal[:, None] + RNG.normal(0, 0.2, (size, 1))).astype(np.float32),
        },
        targets={
            "emotion": RNG.integers(-1, 3, size),
            "gender": gender,
            "arousal": np.where(RNG.random(size) < 0.2, np.nan, arousal).astype(np.float32),
        },
    )


def test_score_leaves_missing_targets_out() -> None:
    predictions = random_predictions()
    scores = score(predictions)
    known = predictions.targets["emotion"] >= 0
    target, guess = predictions.targets["emotion"][known], predictions.scores["emotion"][known].argmax(1)
    assert 0 < known.sum() < 80
    assert scores["emotion"] == {
        "uar": pytest.approx(sklearn_metrics.balanced_accuracy_score(target, guess)),
        "wa": pytest.approx(sklearn_metrics.accuracy_score(target, guess)),
        "macro_f1": pytest.approx(sklearn_metrics.f1_score(target, guess, average="macro")),
        "recall": pytest.approx(dict(zip(EMOTION.labels, metrics.recall_per_class(target, guess, 3), strict=True))),
        "ece": pytest.approx(metrics.ece(target, predictions.scores["emotion"][known])),
        "num": known.sum(),
    }
    known = ~np.isnan(predictions.targets["arousal"])
    x, y = predictions.targets["arousal"][known], predictions.scores["arousal"][known, 0]
    assert scores["arousal"] == {
        "ccc": pytest.approx(ccc_by_correlation(x.astype(float), y.astype(float))),
        "rmse": pytest.approx(sklearn_metrics.root_mean_squared_error(x, y)),
        "num": known.sum(),
    }


def test_score_without_any_target_is_nan() -> None:
    predictions = random_predictions()
    blank = predictions.select(predictions.targets["emotion"] < 0)
    emotion = score(blank)["emotion"]
    assert emotion["num"] == 0
    assert all(math.isnan(emotion[name]) for name in ("uar", "wa", "macro_f1", "ece"))
    assert all(math.isnan(value) for value in emotion["recall"].values())


def test_per_gender_is_the_score_of_that_gender() -> None:
    predictions = random_predictions()
    by_gender = per_gender(predictions)
    assert set(by_gender) == {"female", "male"}
    women = predictions.select(np.array([gender == "female" for gender in predictions.genders]))
    expected = score(women)
    assert by_gender["female"] == {"emotion": expected["emotion"], "arousal": expected["arousal"]}


OFFLINE = """
import sys, tempfile
from undertone.scoring.results import score
assert "evaluate" not in sys.modules and "datasets" not in sys.modules and "sklearn" not in sys.modules
from undertone.scoring.evaluate_metrics import ScoreMetric
with tempfile.TemporaryDirectory() as folder:
    metric = ScoreMetric("regression", cache_dir=folder, keep_in_memory=True)
    metric.add_batch(predictions=[0.0, 2.0], references=[0.0, 1.0])
    metric.add_batch(predictions=[4.0], references=[2.0])
    print(round(metric.compute()["ccc"], 6), isinstance(metric, sys.modules["evaluate"].Metric))
import numpy as np
from undertone.downstream.task import Task
from undertone.scoring.predictions import Predictions
task = Task("arousal", "regression", ("arousal",))
values = np.array([0.0, 1.0, 2.0], np.float32)
columns = ["a", "b", "c"], ["f"] * 3, [None] * 3, [None] * 3
some = Predictions((task,), *columns, scores={"arousal": 2 * values[:, None]}, targets={"arousal": values})
print(round(score(some)["arousal"]["ccc"], 6))
"""


@pytest.mark.slow
def test_metrics_need_neither_network_nor_a_writable_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = {"HF_HOME": str(tmp_path / "file" / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", OFFLINE]
    run = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["0.615385", "True", "0.615385"]
