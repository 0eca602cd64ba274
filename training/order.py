"""Randomness as a function of (seed, epoch, step, utterance id), never of a generator's history."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")

BUCKET = 8  # batches whose utterances are sorted by length together


def draw(*parts: object) -> int:
    """A 63-bit integer that depends on `parts` alone."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_everything(*parts: object) -> None:
    """Set torch's generators from `parts`; called before weights are drawn and before every step."""
    torch.manual_seed(draw(*parts))


def epoch_batches(
    ids: Sequence[str], durations: Sequence[float], batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """The batches of one epoch, as positions in `ids`; every position occurs once.

    The order is random; within stretches of `BUCKET` batches utterances are sorted by duration, so that a batch holds
    clips of like length and little padding, and the batches are then shuffled.
    """
    order = sorted(range(len(ids)), key=lambda position: draw(seed, "order", epoch, ids[position]))
    batches = []
    for stretch in chunks(order, BUCKET * batch_size):
        batches += chunks(sorted(stretch, key=lambda position: durations[position]), batch_size)
    return sorted(batches, key=lambda batch: draw(seed, "batches", epoch, ids[batch[0]]))


def chunks(items: Sequence[Item], size: int) -> list[list[Item]]:
    """Consecutive pieces of `size`; the last one may be shorter."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]
