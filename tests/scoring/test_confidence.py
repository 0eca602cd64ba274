from __future__ import annotations

import numpy as np
import pytest

from undertone.scoring.metrics import risk_area, risk_coverage


def test_by_hand_with_a_tie() -> None:
    """Confidences 0.9 right, 0.8 wrong and 0.8 right together, 0.6 wrong."""
    probabilities = np.array([[0.2, 0.8], [0.9, 0.1], [0.6, 0.4], [0.8, 0.2]])
    coverage, risk = risk_coverage(np.array([0, 0, 1, 0]), probabilities)
    assert coverage.tolist() == [0.25, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0.0, 1 / 3, 0.5])
    assert risk_area(coverage, risk) == pytest.approx(0.25 * 0 + 0.5 / 3 + 0.25 * 0.5)


def test_is_what_thresholds_give() -> None:
    rng = np.random.default_rng(0)
    target, probabilities = rng.integers(0, 3, 60), rng.dirichlet([1, 1, 1], 60).round(1)
    coverage, risk = risk_coverage(target, probabilities)
    levels = sorted(set(probabilities.max(1)), reverse=True)
    for level, share, wrong in zip(levels, coverage, risk, strict=True):
        kept = probabilities.max(1) >= level
        assert share == pytest.approx(kept.mean())
        assert wrong == pytest.approx(np.mean(probabilities.argmax(1)[kept] != target[kept]))
