"""benchmarks/interval_coverage.py, small: intervals hold as often as they say, equal systems differ as seldom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from undertone.common.discovery import load_file
from undertone.downstream.task import Task
from undertone.scoring.intervals import metrics_of


@pytest.fixture(scope="module")
def coverage() -> Any:
    return load_file(Path(__file__).resolve().parents[2] / "benchmarks" / "interval_coverage.py")


@pytest.mark.parametrize("kind", ["acted, 7 classes", "imbalanced, classes missing"])
@pytest.mark.parametrize("num_speakers", [4, 10])
def test_coverage(coverage: Any, kind: str, num_speakers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """250 corpora: limits of four standard errors around 95 % and 5 %, far from what a bootstrap gives."""
    monkeypatch.setattr(coverage, "BOOTSTRAPPED", 60)
    monkeypatch.setattr(coverage, "RESAMPLES", 200)
    row = coverage.measure(next(one for one in coverage.KINDS if one.name == kind), num_speakers, 250)
    assert 0.08 < row["speaker_sd"] < 0.2  # of a speaker's UAR, noise of few utterances included
    for metric in ("uar", "wa", "macro_f1"):
        assert 0.895 < row[metric] <= 1
    assert 0 <= row["different"] < 0.105
    assert row["bootstrap_utterances"] < 0.85 and row["without"] == 0


def test_the_simulated_systems_are_equally_good(coverage: Any) -> None:
    kind = coverage.KINDS[2]
    sums = coverage.simulate(np.random.default_rng(0), kind, 20_000).sum(axis=0)  # (2, C, C)
    first, second = metrics_of(Task("emotion", "classification", ("a", "b")))["uar"].of(sums)
    assert abs(first - second) < 0.005
    assert coverage.truth(kind)["uar"] == pytest.approx(first, abs=0.01)
