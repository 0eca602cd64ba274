"""Heads fitted by a solver give what scikit-learn gives, with PyTorch alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

from undertone.downstream.fitted_head import FittedHead
from undertone.downstream.head import build_head, check_head_tasks
from undertone.downstream.task import Task
from undertone.upstream.types import Frames

EMOTION = Task("emotion", "classification", ("angry", "happy", "neutral", "sad"))
GENDER = Task("gender", "classification", ("female", "male"))
AROUSAL = Task("arousal", "regression", ("arousal",))
TASKS = (EMOTION, GENDER, AROUSAL)
REFERENCES = {
    "svm": (LinearSVC(C=0.1, random_state=0, max_iter=100_000), LinearSVR(C=0.1, loss="squared_epsilon_insensitive")),
    "logistic": (LogisticRegression(C=0.1, max_iter=10_000), Ridge(alpha=5.0)),
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


def make(name: str, tasks: tuple[Task, ...] = TASKS, **options: float) -> FittedHead:
    head = build_head(name, {"speech": 12}, tasks, {"C": 0.1} | options)
    assert isinstance(head, FittedHead)
    return head


@pytest.mark.parametrize("name", REFERENCES)
def test_predictions_are_scikit_learns(name: str) -> None:
    features, truth = data()
    head = make(name)
    head.fit(features, truth)
    found = logits(head, features)
    classify, regress = REFERENCES[name]
    emotion = make_pipeline(StandardScaler(), classify).fit(features, truth["emotion"])
    np.testing.assert_allclose(found["emotion"], emotion.decision_function(features), atol=1e-5)
    gender = make_pipeline(StandardScaler(), classify).fit(features, truth["gender"])
    np.testing.assert_allclose(found["gender"] @ [-1, 1], gender.decision_function(features), atol=1e-5)
    arousal = make_pipeline(StandardScaler(), regress).fit(features, truth["arousal"])
    np.testing.assert_allclose(found["arousal"][:, 0], arousal.predict(features), atol=1e-3 if name == "svm" else 1e-5)


def test_the_softmax_of_logistic_is_its_probability() -> None:
    features, truth = data()
    head = make("logistic")
    head.fit(features, truth)
    for task in ("emotion", "gender"):
        model = make_pipeline(StandardScaler(), REFERENCES["logistic"][0]).fit(features, truth[task])
        found = torch.from_numpy(logits(head, features)[task]).softmax(-1).numpy()
        np.testing.assert_allclose(found, model.predict_proba(features), atol=1e-5)


def test_balanced_classes_and_C_are_passed_on() -> None:
    features, truth = data()
    rare = np.flatnonzero((truth["emotion"] != 3) | (np.arange(200) % 10 == 0))
    few = features[rare], {name: values[rare] for name, values in truth.items()}
    head = make("svm", C=0.01)
    head.fit(*few, balanced=True)
    model = LinearSVC(C=0.01, class_weight="balanced", random_state=0, max_iter=100_000)
    expected = make_pipeline(StandardScaler(), model).fit(few[0], few[1]["emotion"]).decision_function(features)
    np.testing.assert_allclose(logits(head, features)["emotion"], expected, atol=1e-5)
    head.fit(*few)
    assert np.abs(logits(head, features)["emotion"] - expected).max() > 0.05


def test_missing_labels_are_left_out_and_absent_classes_never_predicted() -> None:
    features, truth = data()
    known = np.flatnonzero(truth["emotion"] != 2)[:90]
    gaps = {"emotion": np.full(200, -1), "gender": truth["gender"], "arousal": np.full(200, np.nan, np.float32)}
    gaps["emotion"][known], gaps["arousal"][known] = truth["emotion"][known], truth["arousal"][known]
    head = make("logistic")
    head.fit(features, gaps)
    scaler = StandardScaler().fit(features)  # of all training utterances, labelled or not
    model = LogisticRegression(C=0.1, max_iter=10_000).fit(scaler.transform(features[known]), truth["emotion"][known])
    found = logits(head, features)["emotion"]
    np.testing.assert_allclose(found[:, [0, 1, 3]], model.decision_function(scaler.transform(features)), atol=1e-5)
    assert (torch.from_numpy(found).softmax(-1)[:, 2] == 0).all()


def test_one_class_or_none_among_the_training_utterances() -> None:
    features, truth = data()
    head = make("svm")
    head.fit(features, truth | {"gender": np.full(200, 1), "emotion": np.full(200, -1)})
    found = logits(head, features)
    assert (found["gender"].argmax(1) == 1).all() and not found["emotion"].any()


def test_wrong_options_and_tasks_are_sentences() -> None:
    with pytest.raises(ValueError, match="C must be > 0, got 0"):
        make("svm", C=0)
    soft = Task("emotion", "distribution", ("angry", "happy"))
    with pytest.raises(ValueError, match="Head 'svm' predicts no distribution, which 'emotion' is; it takes class"):
        check_head_tasks("svm", (soft,))
