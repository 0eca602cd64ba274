"""Where a device's memory does not hold a batch: halves of it, and a sentence where one clip alone is too much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from accelerate.utils.memory import should_reduce_batch_size

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_halves(
    compute: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], describe: Callable[[Item], str]
) -> list[Result]:
    """`compute(items)`; where the memory does not hold them all, of their halves, and so on.

    Args:
        compute: gives the results of some items in their order, the same whatever shares their batch.
        items: one or more.
        describe: names an item in the message.

    Raises:
        ValueError: the memory does not hold one item alone.
    """
    try:
        return compute(items)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        if len(items) == 1:
            raise too_little(describe(items[0]), error) from error
    half = len(items) // 2  # behind the block, where the failed batch is no longer held
    return [*in_halves(compute, items[:half], describe), *in_halves(compute, items[half:], describe)]


def too_little(what: str, error: RuntimeError) -> ValueError:
    """The sentence about what does not fit."""
    reason = str(error).split("\n")[0]
    return ValueError(
        f"The memory does not hold {what}: {reason} Use shorter pieces of audio; a run also takes "
        f"mixed_precision=bf16, gradient_checkpointing=true where the upstream learns, or device=cpu."
    )
