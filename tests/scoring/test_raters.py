from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from undertone.downstream.task import Task
from undertone.scoring.predictions import Predictions
from undertone.scoring.raters import rater_agreement

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))


def predictions(scores: list[list[float]]) -> Predictions:
    size = len(scores)
    return Predictions(
        tasks=(EMOTION,),
        ids=[f"u{i}" for i in range(size)],
        folds=["one"] * size,
        speakers=[None] * size,
        genders=[None] * size,
        scores={"emotion": np.array(scores, dtype=np.float32)},
        targets={"emotion": np.zeros(size, dtype=np.int64)},
    )


def test_shares_by_hand() -> None:
    said = predictions([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [1.0, 0.0, 0.0]])
    votes = {"u0": {"angry": 3.0, "sad": 1.0}, "u1": {"sad": 2.0}, "u2": {"sad": 1.0, "calm": 1.0}, "u3": {"sad": 1.0}}
    found = rater_agreement(said, votes)
    assert found is not None
    assert found["num"] == 3  # u3 has one vote
    assert found["model"] == pytest.approx((0.75 + 0.0 + 0.5) / 3)
    assert found["majority"] == pytest.approx((0.75 + 1.0 + 0.5) / 3)
    assert found["raters"] == pytest.approx((0.5 + 1.0 + 0.0) / 3)


def test_raters_agree_as_their_pairs_do() -> None:
    rng = np.random.default_rng(0)
    cast = [rng.integers(0, 3, 5) for _ in range(20)]
    votes = {
        f"u{i}": {label: float(np.sum(row == k)) for k, label in enumerate(EMOTION.labels)}
        for i, row in enumerate(cast)
    }
    found = rater_agreement(predictions(rng.dirichlet([1, 1, 1], 20).tolist()), votes)
    assert found is not None
    pairs = np.mean([np.mean([one == other for one, other in combinations(row, 2)]) for row in cast])
    assert found["raters"] == pytest.approx(pairs)


def test_doubt_goes_with_the_raters_or_against_them() -> None:
    sure, unsure, torn = [0.98, 0.01, 0.01], [0.4, 0.3, 0.3], [0.6, 0.3, 0.1]
    votes = {"u0": {"angry": 6.0}, "u1": {"angry": 2.0, "happy": 2.0, "sad": 2.0}, "u2": {"angry": 4.0, "sad": 2.0}}
    for rows, expected in (([sure, unsure, torn], 1.0), ([unsure, sure, torn], -1.0)):
        found = rater_agreement(predictions(rows), votes)
        assert found is not None and found["doubt"] == pytest.approx(expected)
    found = rater_agreement(predictions([sure, sure, sure]), votes)
    assert found is not None and found["doubt"] is None


def test_nothing_without_votes_or_without_emotions() -> None:
    said = predictions([[1.0, 0.0, 0.0]])
    assert rater_agreement(said, {}) is None
    assert rater_agreement(said, {"u0": None}) is None
    other = replace(EMOTION, name="mood")
    renamed = replace(
        said, tasks=(other,), scores={"mood": said.scores["emotion"]}, targets={"mood": said.targets["emotion"]}
    )
    assert rater_agreement(renamed, {"u0": {"angry": 3.0}}) is None
