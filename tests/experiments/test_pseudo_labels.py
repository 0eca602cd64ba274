"""Pseudo-labels: the threshold by hand, and a training that takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from undertone.corpora.synthetic import Synthetic
from undertone.downstream.task import Task
from undertone.experiments.pseudo_labels import confident, labelled_task
from undertone.scoring.predictions import Predictions
from undertone.tests.cli.commands import undertone


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


@pytest.mark.parametrize("method", ["pseudo_labels=0.3", "mean_teacher=5"])
def test_speech_without_labels_changes_what_is_learned(small_corpus: Path, tmp_path: Path, method: str) -> None:
    list(Synthetic(seed=5, num_speakers=2, per_emotion=1).rows(tmp_path / "speech"))
    words = ("upstream=mfcc", "head=linear", "tasks=emotion", "protocol=groups", "num_folds=2", "max_epochs=3")
    words = (*words, f"store={tmp_path / 'store'}", "learning_rate=1e-2", "device=cpu")
    plain = undertone("train", small_corpus, *words, "--out", tmp_path / "plain")
    more = (method, "--unlabelled", tmp_path / "speech")
    told = undertone("train", small_corpus, *words, *more, "--out", tmp_path / "told")
    assert plain.status == told.status == 0, told.err
    first, second = (Predictions.load(tmp_path / name / "predictions.parquet") for name in ("plain", "told"))
    assert first.ids == second.ids and not np.allclose(first.scores["emotion"], second.scores["emotion"], atol=1e-4)
    if method.startswith("pseudo"):
        assert "of 8 unlabelled utterances have a pseudo-label (probability >=" in told.err
    refused = undertone("train", small_corpus, *words, method, "--out", tmp_path / "none")
    assert refused.fails_with("learns from speech without labels: add --unlabelled FOLDER")
