"""Scores of predictions: UAR first, then WA, macro-F1, recall per class, CCC, RMSE and calibration.

Metrics are functions of a confusion matrix or a sum of moments. Both are additive over utterances, so a jackknife
(`intervals.py`) can leave speakers out without going through the utterances again: the `*_of` functions take such sums
with any leading dimensions. An undefined value (nothing to score) is NaN, never 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def confusion_matrix(target: ArrayLike, predicted: ArrayLike, num_classes: int) -> np.ndarray:
    """Counts of (true class, predicted class).

    Args:
        target: (N,) integers in 0..num_classes-1.
        predicted: (N,) integers in 0..num_classes-1.
        num_classes: C.

    Returns:
        (C, C) int64; rows are true classes, columns predicted ones.

    Raises:
        ValueError: the lengths differ, or a value is not such an integer.

    Example:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
        [[1, 1], [0, 1]]
    """
    true, guess = _classes(target, num_classes, "target"), _classes(predicted, num_classes, "predicted")
    _same_length(true, guess)
    cells = np.bincount(true * num_classes + guess, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)  # (C, C)


def recall_per_class(target: ArrayLike, predicted: ArrayLike, num_classes: int) -> np.ndarray:
    """TP_k / N_k of every class k: (C,) float64, NaN for a class that is absent from `target`.

    As scikit-learn's `recall_score(average=None)`, except that there an absent class is 0. Raises as
    `confusion_matrix` does.

    Example:
        >>> recall_per_class([0, 0, 1], [0, 1, 1], 3).tolist()
        [0.5, 1.0, nan]
    """
    return _recalls(confusion_matrix(target, predicted, num_classes))


def uar(target: ArrayLike, predicted: ArrayLike, num_classes: int) -> float:
    """Unweighted average recall (UA, balanced accuracy): (1/K) sum_k TP_k / N_k over the K classes in `target`.

    A class that is absent from `target` is excluded, as in scikit-learn's `balanced_accuracy_score`. Source: Schuller
    et al., "The INTERSPEECH 2009 Emotion Challenge". NaN if there is nothing to score; raises as `confusion_matrix`.

    Example:
        >>> uar([0, 0, 1], [0, 1, 1], 3)
        0.75
    """
    return float(uar_of(confusion_matrix(target, predicted, num_classes)))


def wa(target: ArrayLike, predicted: ArrayLike) -> float:
    """Weighted accuracy, the fraction of correct utterances (accuracy): sum_k TP_k / N.

    NaN if there is nothing to score. Raises ValueError when the lengths differ or a value is no class index (>= 0).

    Example:
        >>> wa([0, 0, 1, 1], [0, 1, 1, 1])
        0.75
    """
    true, guess = _classes(target, None, "target"), _classes(predicted, None, "predicted")
    _same_length(true, guess)
    return float(_ratio(np.sum(true == guess), len(true)))


def macro_f1(target: ArrayLike, predicted: ArrayLike, num_classes: int) -> float:
    """Mean of F1_k = 2 TP_k / (N_k + P_k), P_k times predicted, over the classes in `target` or in `predicted`.

    This is scikit-learn's `f1_score(average="macro")`: a class that is predicted but never true counts as 0, one that
    is neither is excluded. NaN if there is nothing to score; raises as `confusion_matrix`.

    Example:
        >>> round(macro_f1([0, 0, 1], [0, 1, 1], 3), 4)
        0.6667
    """
    return float(macro_f1_of(confusion_matrix(target, predicted, num_classes)))


def ccc(target: ArrayLike, predicted: ArrayLike) -> float:
    """Concordance correlation: 2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2), population moments (Lin 1989, Biometrics 45).

    Over all utterances at once, never averaged over batches or files. Not defined, hence NaN, for fewer than two
    utterances and when both sides are one and the same constant; 0 when only one side is constant.

    Args:
        target: (N,) finite numbers.
        predicted: (N,) finite numbers.

    Raises:
        ValueError: the lengths differ, or a value is NaN or infinite.

    Example:
        >>> round(ccc([0.0, 1.0, 2.0], [0.0, 1.0, 1.0]), 4)
        0.6667
    """
    return float(ccc_of(moment_rows(target, predicted).sum(axis=0)))


def rmse(target: ArrayLike, predicted: ArrayLike) -> float:
    """Root mean square error, in the target's unit: sqrt(mean((x - y)^2)). NaN for none; raises as `ccc`.

    Example:
        >>> rmse([0.0, 0.0], [3.0, -3.0])
        3.0
    """
    true, guess = _values(target, "target"), _values(predicted, "predicted")
    _same_length(true, guess)
    return float(np.sqrt(_ratio(np.sum((true - guess) ** 2), len(true))))


def ece(target: ArrayLike, probabilities: ArrayLike, num_bins: int = 15) -> float:
    """Expected calibration error: sum_b |B_b| / N * |accuracy(B_b) - confidence(B_b)|.

    Bins of equal width, ((b-1)/M, b/M], of the highest probability. Source: Guo et al. 2017, "On calibration of modern
    neural networks", equation 3, which also has the 15 bins. NaN if there is nothing to score.

    Args:
        target: (N,) integers in 0..C-1.
        probabilities: (N, C) in [0, 1].
        num_bins: M.

    Raises:
        ValueError: the shapes do not fit, or a value is outside [0, 1].

    Example:
        >>> ece([0, 1], [[0.75, 0.25], [0.75, 0.25]])
        0.25
    """
    count, accuracy, confidence = calibration_bins(target, probabilities, num_bins)
    gaps = np.nansum(count * np.abs(accuracy - confidence))
    return float(_ratio(gaps, count.sum()))


def calibration_bins(
    target: ArrayLike, probabilities: ArrayLike, num_bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(num_bins,) counts, accuracies and mean confidences, from which `ece` is computed; NaN in empty bins."""
    table = np.asarray(probabilities, dtype=np.float64)
    table = table if table.size else table.reshape(0, 1)  # an empty list has no second dimension
    if table.ndim != 2 or not np.all((table >= 0) & (table <= 1 + 1e-6)):
        raise ValueError(f"Probabilities must be an (N, C) table of numbers in [0, 1], got shape {table.shape}.")
    true = _classes(target, table.shape[1], "target")
    _same_length(true, table)
    confidence = table.max(axis=1)  # (N,)
    correct = table.argmax(axis=1) == true  # (N,)
    bins = np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    count, hits, total = (np.bincount(bins, weights, num_bins) for weights in (None, correct, confidence))
    return count, _ratio(hits, count), _ratio(total, count)


def uar_of(confusion: np.ndarray) -> np.ndarray:
    """UAR of (..., C, C) confusion counts -> (...)."""
    return _mean_of_defined(_recalls(confusion))


def wa_of(confusion: np.ndarray) -> np.ndarray:
    """WA of (..., C, C) confusion counts -> (...)."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def macro_f1_of(confusion: np.ndarray) -> np.ndarray:
    """Macro-F1 of (..., C, C) confusion counts -> (...)."""
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)  # (..., C)
    return _mean_of_defined(_ratio(2 * correct, confusion.sum(axis=-1) + confusion.sum(axis=-2)))


def moment_rows(target: ArrayLike, predicted: ArrayLike) -> np.ndarray:
    """(N, 6) float64: 1, x, y, x^2, y^2, xy of each utterance, minus the first target (less cancellation).

    `ccc_of` and `rmse_of` take sums of these rows. Raises as `ccc`.
    """
    true, guess = _values(target, "target"), _values(predicted, "predicted")
    _same_length(true, guess)
    origin = true[0] if len(true) else 0.0
    x, y = true - origin, guess - origin
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)  # (N, 6)


def ccc_of(sums: np.ndarray) -> np.ndarray:
    """CCC of (..., 6) sums of `moment_rows` -> (...)."""
    count = sums[..., 0]
    mean = _ratio(sums[..., 1:], np.where(count >= 2, count, 0)[..., None])  # (..., 5)
    x, y, xx, yy, xy = np.moveaxis(mean, -1, 0)
    return _ratio(2 * (xy - x * y), xx - x * x + yy - y * y + (x - y) ** 2)


def rmse_of(sums: np.ndarray) -> np.ndarray:
    """RMSE of (..., 6) sums of `moment_rows` -> (...)."""
    squares = sums[..., 3] + sums[..., 4] - 2 * sums[..., 5]
    return np.asarray(np.sqrt(_ratio(np.maximum(squares, 0), sums[..., 0])))


def _recalls(confusion: np.ndarray) -> np.ndarray:
    return _ratio(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1))  # (..., C)


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    """The quotient, NaN where the denominator is 0."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    quotient = np.full(shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=np.not_equal(denominator, 0))
    return quotient


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN if there is nothing else."""
    return _ratio(np.nansum(values, axis=-1), np.sum(~np.isnan(values), axis=-1))


def _classes(values: ArrayLike, num_classes: int | None, name: str) -> np.ndarray:
    array = np.asarray(values)
    whole = array.size == 0 or np.issubdtype(array.dtype, np.integer)
    last = "C" if num_classes is None else num_classes - 1
    if array.ndim != 1 or not whole or np.any(array < 0) or (num_classes is not None and np.any(array >= num_classes)):
        raise ValueError(f"{name} must be (N,) class indices in 0..{last}; remove missing ones first.")
    return array.astype(np.int64)


def _values(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be (N,) finite numbers; remove missing ones (NaN) first.")
    return array


def _same_length(first: np.ndarray, second: np.ndarray) -> None:
    if len(first) != len(second):
        raise ValueError(f"Expected one prediction per target, got {len(first)} and {len(second)}.")


# ---- Selective prediction: the model may abstain.


def risk_coverage(target: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Error rate on the most confident predictions, against how many are kept (El-Yaniv and Wiener 2010).

    Confidence is the highest probability; utterances with the same confidence are kept together.

    Args:
        target: (N,) class indices, N >= 1.
        probabilities: (N, C).

    Returns:
        (K,) coverages: increasing fractions of utterances kept, up to 1; (K,) risks: fractions of errors among them.

    Example:
        >>> coverage, risk = risk_coverage(np.array([0, 0]), np.array([[0.9, 0.1], [0.3, 0.7]]))
        >>> coverage.tolist(), risk.tolist()
        ([0.5, 1.0], [0.0, 0.5])
    """
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != target  # (N,), (N,)
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    last = np.append(ordered[1:] != ordered[:-1], True)  # (N,) the last of each level of confidence
    kept = np.arange(1, len(target) + 1)
    return kept[last] / len(target), np.cumsum(wrong[order])[last] / kept[last]


def risk_area(coverage: np.ndarray, risk: np.ndarray) -> float:
    """Area under the risk-coverage curve: the mean risk over all coverages; 0 is best (Geifman and El-Yaniv 2019)."""
    return float(np.sum(risk * np.diff(coverage, prepend=0.0)))
