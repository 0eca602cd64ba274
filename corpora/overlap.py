"""Which utterances share audio: overlapping spans of a file or of copies of it, whole or in part.

Copies are found by landmarks: positions chosen by the samples themselves, each with a hash of the samples that follow.
Two utterances that share the 512 samples after a landmark share the landmark, wherever it is in each. There is one
about every 2,048 samples, so an overlap of one second at 16 kHz is missed with a probability of e^-7.6, below 0.001.
Audio that was resampled or encoded again is not found.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

SLACK_S = 0.01
"""Shorter overlaps of spans are ignored: tables round their times."""

_EVERY = 2048  # samples between landmarks, on average
_WINDOW = 512  # samples that a landmark stands for
_VARIED = 64  # distinct values among them; fewer are silence, clicks or a tone


def landmarks(samples: np.ndarray) -> list[int]:
    """Landmarks of (N,) float32 samples, in order, each a number of 64 bits."""
    if len(samples) < _WINDOW:
        return []
    bits = np.ascontiguousarray(samples, dtype="<f4").view("<u4")  # (N,)
    mixed = bits[: len(bits) - _WINDOW + 1] * np.uint32(2654435761)  # (N - 511,), wraps
    for offset, factor in ((1, 2246822519), (2, 3266489917), (3, 668265263)):
        mixed ^= bits[offset : offset + len(mixed)] * np.uint32(factor)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2246822519)
    moving = bits[: len(mixed)] != bits[1 : len(mixed) + 1]  # digital silence mixes to 0, which is always below
    chosen = np.flatnonzero((mixed < 2**32 // _EVERY) & moving)
    windows = (bits[place : place + _WINDOW] for place in chosen)
    hashes = (hashlib.blake2b(one.data, digest_size=8) for one in windows if len(np.unique(one)) >= _VARIED)
    return [int.from_bytes(one.digest()) for one in hashes]


def overlaps(
    paths: Sequence[str], spans: Sequence[tuple[float, float]], hashes: Sequence[str], marks: Sequence[Any]
) -> list[int]:
    """The group of each of N utterances, named by its first member; alone in its group = no overlap.

    Spans are (first, last) seconds in the file, hashes of the whole audio ("" = unknown), marks from `landmarks`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = [*_sharing(marks)]
    by_path: defaultdict[str, list[int]] = defaultdict(list)
    for row, path in enumerate(paths):
        by_path[path].append(row)
    for rows in by_path.values():
        if len(rows) == 1:
            continue
        rows.sort(key=lambda row: spans[row])
        last = rows[0]  # of those before, the one that ends last
        for row in rows[1:]:
            if spans[row][0] < spans[last][1] - SLACK_S:
                pairs.append((row, last))
            last = max(last, row, key=lambda one: spans[one][1])
    same: dict[str, int] = {}
    pairs += [(row, same.setdefault(whole, row)) for row, whole in enumerate(hashes) if whole]
    ends = np.array(pairs, np.int64).reshape(-1, 2).T  # (2, P)
    _, groups = connected_components(coo_array((np.ones(len(pairs)), ends), (len(paths), len(paths))), directed=False)
    first: dict[int, int] = {}
    return [first.setdefault(group, row) for row, group in enumerate(groups.tolist())]


def _sharing(marks: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Pairs of rows that have a landmark in common; enough of them to connect all that have."""
    every = np.concatenate([np.zeros(0, np.uint64), *(np.asarray(one, np.uint64) for one in marks)])  # (M,)
    rows = np.repeat(np.arange(len(marks)), [len(one) for one in marks])  # (M,)
    order = np.argsort(every, kind="stable")
    every, rows = every[order], rows[order]
    same = np.flatnonzero((every[1:] == every[:-1]) & (rows[1:] != rows[:-1]))
    yield from zip(rows[same].tolist(), rows[same + 1].tolist(), strict=True)
