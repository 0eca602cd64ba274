"""Heads fitted by a solver give what scikit-learn gives, with PyTorch alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_sample_weight

from undertone.downstream.fitted_head import FittedHead, Reduced
from undertone.downstream.head import build_head, check_head_tasks
from undertone.downstream.heads.svm import squared_hinge
from undertone.downstream.task import Task
from undertone.upstream.types import Frames

EMOTION = Task("emotion", "classification", ("angry", "happy", "neutral", "sad"))
GENDER = Task("gender", "classification", ("female", "male"))
AROUSAL = Task("arousal", "regression", ("arousal",))
TASKS = (EMOTION, GENDER, AROUSAL)
EXACT = {"tol": 1e-10, "max_iter": 1_000_000}


class Covariance(BaseEstimator):
    """A class' own covariance plus the identity / C, for scikit-learn's discriminant analysis."""

    def fit(self, rows: np.ndarray) -> Covariance:
        self.covariance_ = np.cov(rows.T, bias=True) + np.eye(rows.shape[1]) / 0.1
        return self


REFERENCES = {
    "lda": LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Covariance()),
    "svm": LinearSVC(C=0.1, random_state=0, **EXACT),
    "logistic": LogisticRegression(C=0.1, **EXACT),
    "ridge": RidgeClassifier(alpha=5.0),
}


def data(rows: int = 200, size: int = 12) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Features of unlike magnitudes, one of them constant, and labels that depend on them."""
    draw = np.random.default_rng(0)
    plain = draw.standard_normal((rows, size))
    emotion = (plain[:, :4] + 0.7 * draw.standard_normal((rows, 4))).argmax(1)
    gender = (plain[:, 4] + 0.5 * draw.standard_normal(rows) > 0.4).astype(np.int64)
    arousal = (plain[:, 5] + 0.1 * draw.standard_normal(rows)).astype(np.float32)
    features = (plain + 3) * 10.0 ** np.linspace(-3, 6, size)
    features[:, -1] = 3.0
    return features, {"emotion": emotion, "gender": gender, "arousal": arousal}


def logits(head: FittedHead, features: np.ndarray) -> dict[str, np.ndarray]:
    """Of one-frame utterances."""
    frames = Frames(torch.from_numpy(features).float()[:, None], torch.ones(len(features), dtype=torch.int64))
    return {name: value.detach().numpy() for name, value in head({"speech": frames}).logits.items()}


def make(name: str, tasks: tuple[Task, ...] = TASKS, size: int = 12, **options: object) -> FittedHead:
    head = build_head(name, {"speech": size}, tasks, {"C": 0.1} | options)
    assert isinstance(head, FittedHead)
    return head


@pytest.mark.parametrize("name", REFERENCES)
def test_predictions_are_scikit_learns(name: str) -> None:
    features, truth = data()
    head = make(name)
    head.fit(features, truth)
    found = logits(head, features)
    check(found, features, features, truth, name)


def check(found: dict[str, np.ndarray], features, train, truth, name: str, atol: float = 1e-4) -> None:
    """Logits of all three tasks against scikit-learn's, fitted on the raw features."""
    classify = REFERENCES[name]
    emotion = make_pipeline(StandardScaler(), classify).fit(train, truth["emotion"])
    np.testing.assert_allclose(found["emotion"], emotion.decision_function(features), atol=atol)
    gender = make_pipeline(StandardScaler(), classify).fit(train, truth["gender"])
    np.testing.assert_allclose(found["gender"] @ [-1, 1], gender.decision_function(features), atol=atol)
    ridge = Ridge(alpha=10.0 * len(train) if name == "lda" else 5.0)  # C = 0.1
    arousal = make_pipeline(StandardScaler(), ridge).fit(train, truth["arousal"])
    np.testing.assert_allclose(found["arousal"][:, 0], arousal.predict(features), atol=1e-5)


@pytest.mark.parametrize("name", REFERENCES)
def test_more_features_than_utterances_give_the_solution_on_the_raw_features(name: str) -> None:
    """The rotation into N dimensions is exact, with constant features and utterances that occur twice."""
    features, truth = data(rows=100, size=300)
    features = np.concatenate([features, features[:7]])
    truth = {task: np.concatenate([values, values[:7]]) for task, values in truth.items()}
    train, held = features[20:], {task: values[20:] for task, values in truth.items()}
    assert Reduced(train).rows.shape == (87, 87)
    head = make(name, size=300)
    head.fit(train, held)
    check(logits(head, features), features, train, held, name)


@pytest.mark.parametrize("name", REFERENCES)
def test_several_values_of_C_are_each_the_fit_with_that_value(name: str) -> None:
    features, truth = data(rows=60, size=90)
    data_, values = Reduced(features), [1e-4, 1e-2, 1.0, 1e-3]
    for task in TASKS:
        planes = make(name, size=90).planes(data_, task, truth[task.name], values, balanced=True)
        for C, (weights, biases) in zip(values, planes, strict=True):
            head = make(name, size=90, C=C)
            head.fit(features, truth, balanced=True)
            expected = logits(head, features)[task.name]
            found = data_.standardise(features) @ weights.T + biases
            np.testing.assert_allclose(found, expected, atol=5e-4)  # each solver stops at a gradient of 1e-6


def test_C_may_be_another_one_for_each_task() -> None:
    features, truth = data()
    head = make("logistic", C={"emotion": 1e-3, "gender": 10.0, "arousal": 1e-4})
    head.fit(features, truth)
    for task in ("emotion", "gender", "arousal"):
        alone = make("logistic", C=head.C[task])
        alone.fit(features, truth)
        np.testing.assert_array_equal(logits(head, features)[task], logits(alone, features)[task])
    with pytest.raises(ValueError, match="C must be a number > 0, got {'emotion': 1}"):
        make("logistic", C={"emotion": 1})  # and the other tasks?


def test_the_squared_hinge_is_at_its_minimum_with_few_and_with_many_features() -> None:
    """The gradient w - 2 C sum_i weights_i signs_i max(0, 1 - signs_i w x_i) x_i is zero, in both ways to solve."""
    draw = np.random.default_rng(3)
    for rows, size in ((40, 90), (90, 12)):
        x, signs = draw.standard_normal((rows, size)), np.sign(draw.standard_normal(rows))
        weights = draw.uniform(0.2, 3, rows)
        for C, w in zip((1e-4, 1.0, 1e3), squared_hinge(x, signs, weights, (1e-4, 1.0, 1e3)), strict=True):
            slack = np.maximum(0, 1 - signs * (x @ w))
            pull = 2 * C * x.T @ (weights * signs * slack)
            assert np.abs(w - pull).max() < 1e-8 * max(1, np.abs(pull).max())


def test_the_softmax_of_logistic_is_its_probability() -> None:
    features, truth = data()
    head = make("logistic")
    head.fit(features, truth)
    for task in ("emotion", "gender"):
        model = make_pipeline(StandardScaler(), REFERENCES["logistic"]).fit(features, truth[task])
        found = torch.from_numpy(logits(head, features)[task]).softmax(-1).numpy()
        np.testing.assert_allclose(found, model.predict_proba(features), atol=1e-5)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("C", [1e-6, 1e-2, 1e2, 1e6])
def test_logistic_regression_is_at_its_minimum(C: float, balanced: bool) -> None:
    """Scikit-learn's loss there is at most its own, for features that depend on each other and a rare class."""
    features, truth = data(rows=300, size=40)
    rows = Reduced(features).rows @ np.random.default_rng(1).standard_normal((40, 40))
    labels = np.where(np.arange(300) % 7 == 0, truth["emotion"], truth["emotion"] % 3)
    ((weights, biases),) = make("logistic", size=40).fit_classes(rows, labels, [C], balanced)  # type: ignore[attr-defined]
    model = LogisticRegression(C=C, class_weight="balanced" if balanced else None, tol=1e-8, max_iter=100_000)
    model.fit(rows, labels)
    each = compute_sample_weight("balanced" if balanced else None, labels)

    def loss(coefficients: np.ndarray, intercepts: np.ndarray) -> float:
        scores = rows @ coefficients.T + intercepts
        return float(log_loss(labels, softmax(scores, 1), sample_weight=each)) + (coefficients**2).sum() / (
            2 * C * each.sum()
        )

    assert loss(weights, biases) <= loss(model.coef_, model.intercept_) + 1e-6


def test_balanced_classes_and_C_are_passed_on() -> None:
    features, truth = data()
    rare = np.flatnonzero((truth["emotion"] != 3) | (np.arange(200) % 10 == 0))
    few = features[rare], {name: values[rare] for name, values in truth.items()}
    head = make("svm", C=0.01)
    head.fit(*few, balanced=True)
    model = LinearSVC(C=0.01, class_weight="balanced", random_state=0, **EXACT)
    for task in ("emotion", "gender"):
        expected = make_pipeline(StandardScaler(), model).fit(few[0], few[1][task]).decision_function(features)
        found = logits(head, features)[task]
        np.testing.assert_allclose(found if task == "emotion" else found @ [-1, 1], expected, atol=1e-5)
    expected = make_pipeline(StandardScaler(), model).fit(few[0], few[1]["emotion"]).decision_function(features)
    head.fit(*few)
    assert np.abs(logits(head, features)["emotion"] - expected).max() > 0.05


def test_balanced_classes_are_equally_likely_in_discriminant_analysis() -> None:
    features, truth = data()
    rare = np.flatnonzero((truth["emotion"] != 3) | (np.arange(200) % 10 == 0))
    few, labels = features[rare], {name: values[rare] for name, values in truth.items()}
    head = make("lda")
    head.fit(few, labels, balanced=True)
    model = LinearDiscriminantAnalysis("lsqr", covariance_estimator=Covariance(), priors=np.full(4, 0.25))
    model = make_pipeline(StandardScaler(), model).fit(few, labels["emotion"])
    found = logits(head, features)["emotion"]
    np.testing.assert_allclose(found, model.decision_function(features), atol=1e-4)
    np.testing.assert_allclose(softmax(found, 1), model.predict_proba(features), atol=1e-4)
    head.fit(few, labels)
    assert np.abs(logits(head, features)["emotion"] - found).max() > 0.05


def test_missing_labels_are_left_out_and_absent_classes_never_predicted() -> None:
    features, truth = data()
    known = np.flatnonzero(truth["emotion"] != 2)[:90]
    gaps = {"emotion": np.full(200, -1), "gender": truth["gender"], "arousal": np.full(200, np.nan, np.float32)}
    gaps["emotion"][known], gaps["arousal"][known] = truth["emotion"][known], truth["arousal"][known]
    head = make("logistic")
    head.fit(features, gaps)
    scaler = StandardScaler().fit(features)  # of all training utterances, labelled or not
    model = LogisticRegression(C=0.1, **EXACT).fit(scaler.transform(features[known]), truth["emotion"][known])
    found = logits(head, features)["emotion"]
    np.testing.assert_allclose(found[:, [0, 1, 3]], model.decision_function(scaler.transform(features)), atol=1e-4)
    assert (torch.from_numpy(found).softmax(-1)[:, 2] == 0).all()


def test_one_class_or_none_among_the_training_utterances() -> None:
    features, truth = data()
    head = make("svm")
    head.fit(features, truth | {"gender": np.full(200, 1), "emotion": np.full(200, -1)})
    found = logits(head, features)
    assert (found["gender"].argmax(1) == 1).all() and not found["emotion"].any()


def test_wrong_options_and_tasks_are_sentences() -> None:
    for wrong in (0, -1, "much", True):
        with pytest.raises(ValueError, match=f"C must be a number > 0, got {wrong!r}"):
            make("svm", C=wrong)
    soft = Task("emotion", "distribution", ("angry", "happy"))
    with pytest.raises(ValueError, match="Head 'svm' predicts no distribution, which 'emotion' is; it takes class"):
        check_head_tasks("svm", (soft,))
