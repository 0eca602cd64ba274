"""What a model is worth when it may decline to answer."""

from __future__ import annotations

import numpy as np


def risk_coverage(target: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of wrong answers among the utterances answered, the surest first (El-Yaniv and Wiener 2010).

    Confidence is the highest probability; utterances of equal confidence are answered together.

    Args:
        target: (N,) class indices, N >= 1.
        probabilities: (N, C).

    Returns:
        (K,) rising shares of the utterances that are answered, the last one 1, and (K,) shares of wrong answers
        among these.

    Example:
        >>> coverage, risk = risk_coverage(np.array([0, 0]), np.array([[0.9, 0.1], [0.3, 0.7]]))
        >>> coverage.tolist(), risk.tolist()
        ([0.5, 1.0], [0.0, 0.5])
    """
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != target  # (N,), (N,)
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    last = np.append(ordered[1:] != ordered[:-1], True)  # (N,) the last of each level of confidence
    answered = np.arange(1, len(target) + 1)
    return answered[last] / len(target), np.cumsum(wrong[order])[last] / answered[last]


def risk_area(coverage: np.ndarray, risk: np.ndarray) -> float:
    """Area under the risk-coverage curve: the mean risk over all coverages; 0 is best (Geifman and El-Yaniv 2019)."""
    return float(np.sum(risk * np.diff(coverage, prepend=0.0)))
