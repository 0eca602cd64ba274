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
    ids: Sequence[str],
    durations: Sequence[float],
    batch_size: int,
    seed: int,
    epoch: int,
    jitter: float,
    corpora: Sequence[str] | None = None,
) -> list[list[int]]:
    """The batches of one epoch, as positions in `ids`: each once, or as `balanced_rounds` of `corpora` draws them.

    Utterances are sorted by duration * (1 + u), u uniform in [-jitter, jitter] and drawn again each epoch, cut into
    batches, and the batches are shuffled: the smaller the jitter, the less padding and the less mixing.
    """

    def blurred(position: int) -> tuple[float, str]:
        uniform = draw(seed, "order", epoch, ids[position]) / 2**63
        return durations[position] * (1 + jitter * (2 * uniform - 1)), ids[position]

    rounds = [list(range(len(ids)))] if corpora is None else balanced_rounds(ids, corpora, seed, epoch)
    batches = chunks([position for some in rounds for position in sorted(some, key=blurred)], batch_size)
    return sorted(batches, key=lambda batch: draw(seed, "batches", epoch, ids[batch[0]]))


def balanced_rounds(ids: Sequence[str], corpora: Sequence[str], seed: int, epoch: int) -> list[list[int]]:
    """N of N positions with equally many of each corpus: utterances of a small one several times an epoch.

    Each corpus is read pass after pass, in a new order each, over all epochs. An epoch is divided into rounds, as many
    as the smallest corpus has passes in it, with equally many of each corpus again.
    """
    names = sorted(set(corpora))
    own = {name: [position for position, corpus in enumerate(corpora) if corpus == name] for name in names}
    share = {name: len(ids) // len(names) + (place < len(ids) % len(names)) for place, name in enumerate(names)}
    number = max(-(-share[name] // len(own[name])) for name in names)
    rounds: list[list[int]] = [[] for _ in range(number)]
    for name, positions in own.items():
        drawn: list[int] = []
        first = epoch * share[name]
        for again in range(first // len(positions), (first + share[name] - 1) // len(positions) + 1):
            drawn += sorted(positions, key=lambda one: draw(seed, "pass", again, ids[one]))  # noqa: B023
        skipped = first % len(positions)
        for place in range(number):
            begin, end = (skipped + one * share[name] // number for one in (place, place + 1))
            rounds[place] += drawn[begin:end]
    return rounds


def balanced_rows(corpora: Sequence[str]) -> list[int]:
    """Positions with as many of each corpus as the largest has: evenly spaced ones of a small one occur once more."""
    names = sorted(set(corpora))
    own = [[position for position, corpus in enumerate(corpora) if corpus == name] for name in names]
    most = max(map(len, own), default=0)
    return [positions[place * len(positions) // most] for positions in own for place in range(most)]


def chunks(items: Sequence[Item], size: int) -> list[list[Item]]:
    """Consecutive slices of `size`; the last may be shorter."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]
