"""Randomness as a function of (seed, epoch, step, utterance id), never of a generator's history."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance

Item = TypeVar("Item")


def draw(*parts: object) -> int:
    """A 63-bit integer that depends only on `parts`."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator_of(*parts: object) -> torch.Generator:
    """A CPU generator whose draws depend only on `parts`."""
    return torch.Generator().manual_seed(draw(*parts))


def seed_everything(*parts: object) -> None:
    """Set torch's generators from `parts`; called before weights are drawn and before every step."""
    torch.manual_seed(draw(*parts))


def utterance_keys(utterances: Sequence[Utterance]) -> torch.Tensor:
    """(B,) int32 hashes of the ids, by which dropout knows utterances."""
    return torch.tensor([draw("dropout", item.id) % 2**32 - 2**31 for item in utterances], dtype=torch.int32)


def epoch_batches(
    ids: Sequence[str], durations: Sequence[float], batch_size: int, seed: int, epoch: int, jitter: float
) -> list[list[int]]:
    """The batches of one epoch, as positions in `ids`; every position occurs once.

    Utterances are sorted by duration * (1 + u), u uniform in [-jitter, jitter] and drawn again each epoch, cut into
    batches, and the batches are shuffled: the smaller the jitter, the less padding and the less mixing.
    """

    def blurred(position: int) -> tuple[float, str]:
        uniform = draw(seed, "order", epoch, ids[position]) / 2**63
        return durations[position] * (1 + jitter * (2 * uniform - 1)), ids[position]

    batches = chunks(sorted(range(len(ids)), key=blurred), batch_size)
    return sorted(batches, key=lambda batch: draw(seed, "batches", epoch, ids[batch[0]]))


def chunks(items: Sequence[Item], size: int) -> list[list[Item]]:
    """Consecutive slices of `size`; the last may be shorter."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]
