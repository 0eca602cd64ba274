"""The scores of each corpus apart, against the same by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from undertone.downstream.task import Task
from undertone.scoring.by_corpus import corpus_table, per_corpus
from undertone.scoring.predictions import Predictions

EMOTION = Task("emotion", "classification", ("angry", "happy"))
CORPUS = Task("corpus", "classification", ("a", "b"))


def predictions(size: int = 60) -> tuple[Predictions, dict[str, str]]:
    rng = np.random.default_rng(0)
    scores = {name: rng.dirichlet([1, 1], size).astype(np.float32) for name in ("emotion", "corpus")}
    targets = {"emotion": rng.integers(0, 2, size), "corpus": np.arange(size) % 2}
    ids, speakers = [f"u{n}" for n in range(size)], [f"s{n % 10}" for n in range(size)]
    found = Predictions(
        (EMOTION, CORPUS), ids, ["f"] * size, list(speakers), [None] * size, scores=scores, targets=targets
    )
    return found, {name: "ab"[n % 2] for n, name in enumerate(ids)}


def test_each_corpus_has_its_scores_and_intervals() -> None:
    found, corpora = predictions()
    by_corpus = per_corpus(found, corpora)
    assert list(by_corpus) == ["a", "b"]
    for place, scores in enumerate(by_corpus.values()):
        truth, guess = (values[place::2] for values in (found.targets["emotion"], found.scores["emotion"].argmax(1)))
        assert scores["scores"]["emotion"]["uar"] == pytest.approx(balanced_accuracy_score(truth, guess))
        low, high = scores["ci95"]["emotion"]["uar"]
        assert low < scores["scores"]["emotion"]["uar"] < high and scores["num_speakers"] == 5
        assert list(scores["scores"]) == ["emotion"]  # of the corpus there is one class in each
    header, rows = corpus_table({"tasks": [EMOTION.to_dict()], "per_corpus": by_corpus})
    assert [row[:3] for row in rows] == [[name, "emotion", m] for name in "ab" for m in ("UAR", "WA", "macro-F1")]
    assert all(len(row) == len(header) and row[-1] == "30" for row in rows)


def test_one_corpus_has_no_table() -> None:
    found, corpora = predictions()
    assert per_corpus(found, dict.fromkeys(corpora, "a")) == {}
    assert corpus_table({"tasks": [EMOTION.to_dict()], "per_corpus": {}})[1] == []
