"""How an upstream is run: halves of a batch that the memory does not hold, and several batches at once on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn

from undertone.audio.batches import ahead

# ---- Where a device's memory does not hold a batch: halves of it, and a sentence where one clip alone is too much.

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_halves(
    compute: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    describe: Callable[[Item], str],
    advice: str | None = None,
) -> list[Result]:
    """`compute(items)`; where the memory does not hold them all, of their halves, and so on.

    `compute` gives the results of some items in their order, the same whatever shares their batch; `describe` names an
    item in the message where one alone does not fit, and `advice` says what to do (None: see `too_little`).
    """
    try:
        return compute(items)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not should_reduce_batch_size(error):
            raise
        if len(items) == 1:
            raise too_little(describe(items[0]), error, advice) from error
    half = len(items) // 2  # behind the block, where the failed batch is no longer held
    return [*in_halves(compute, items[:half], describe, advice), *in_halves(compute, items[half:], describe, advice)]


class TooLittleMemory(ValueError):
    """What the memory does not hold, and what to do."""


def too_little(what: str, error: Exception, advice: str | None = None) -> TooLittleMemory:
    """The sentence about what does not fit; without advice, that for a run."""
    reason = str(error).split("\n")[0]
    return TooLittleMemory(f"The memory does not hold {what}: {reason} {advice or FOR_A_RUN}")


FOR_A_RUN = (
    "Use shorter clips; a run also takes mixed_precision=bf16, gradient_checkpointing=true where the upstream learns, "
    "or device=cpu."
)


# ---- A module at work on several batches at once, on a CPU.
#
# Utterances side by side, each on a thread of its own, keep every core busy; threads that split one utterance wait
# for each other: a wav2vec2-base processes 1.1 times as much on two cores.

MOST = 8  # at once: each takes memory for what it computes; further cores split an utterance

Module = TypeVar("Module", bound=nn.Module)


def side_by_side(
    module: Module, batches: Iterable[Sequence[Item]], work: Callable[[Module, Sequence[Item]], Result]
) -> Iterator[tuple[Sequence[Item], Result]]:
    """Each batch with what `work` gives for it, in their order.

    Args:
        module: on the CPU; not to be changed meanwhile.
        batches: what to work on.
        work: called in threads, with a twin of the module that no other call has at that time.
    """
    threads = torch.get_num_threads()
    streams = min(threads, MOST)
    twins: SimpleQueue[Module] = SimpleQueue()
    for _ in range(streams):
        twins.put(twin(module))

    def one(batch: Sequence[Item]) -> Result:
        own = twins.get()
        try:
            return work(own, batch)
        finally:
            twins.put(own)

    yield from ahead(batches, one, workers=streams, threads=threads // streams)


def twin(module: Module) -> Module:
    """The module once more, on the same weights, packed or not: both can run at the same time.

    Modules write down what they need within a forward (lengths, cached positions); the twin has places of its own.
    """
    shared = [*module.parameters(), *module.buffers()]
    for layer in module.modules():
        if isinstance(forward := layer.__dict__.get("forward"), partial):
            shared += [value for value in forward.args if isinstance(value, Tensor)]
    return deepcopy(module, {id(tensor): tensor for tensor in shared})
