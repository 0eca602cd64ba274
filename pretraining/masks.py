"""Masked spans and distractors, functions of (seed, update, utterance) alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from undertone.training.seeding import generator_of


def span_mask(length: int, fraction: float, span: int, *parts: object) -> Tensor:
    """(T,) bool: spans of masked frames, as in wav2vec 2.0 (Baevski et al. 2020, section 3.1).

    `fraction * T / span` spans start at different random frames, so that they may overlap and cover less than the
    fraction. Of two frames or more, one at least is masked and one is not.

    Args:
        length: T, frames.
        fraction: of the frames that spans would cover if they did not overlap.
        span: frames of each; of a short utterance, half of its frames.
        parts: what the draws depend on, such as seed, update and utterance.
    """
    mask = torch.zeros(length, dtype=torch.bool)
    span = max(1, min(span, length // 2))
    places = length - span + 1
    count = min(max(1, round(fraction * length / span)), places)
    starts = torch.randperm(places, generator=generator_of(*parts))[:count]
    for start in starts.tolist():
        mask[start : start + span] = True
    if mask.all() and length > 1:
        mask[int(torch.randint(length, (), generator=generator_of(*parts, "kept")))] = False
    return mask


def negatives(mask: Tensor, count: int, *parts: object) -> Tensor:
    """(T, count) int64 of a (T,) mask: for each masked frame, other masked frames of the utterance, drawn at random.

    Rows of frames that are not masked are 0. An utterance with one masked frame has only that one to offer.
    """
    found = torch.zeros(len(mask), count, dtype=torch.int64)
    masked = mask.nonzero()[:, 0]  # (M,)
    others = max(len(masked) - 1, 1)
    drawn = torch.randint(others, (len(masked), count), generator=generator_of(*parts))  # (M, count)
    if len(masked) > 1:
        drawn = drawn + (drawn >= torch.arange(len(masked))[:, None])  # skip the frame itself
    found[masked] = masked[drawn]
    return found


def pad(rows: Sequence[Tensor], size: int) -> Tensor:
    """(T_i, ...) rows -> (B, size, ...), zeros or False behind each."""
    padded = rows[0].new_zeros(len(rows), size, *rows[0].shape[1:])
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded
