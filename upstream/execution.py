"""How an upstream is run: halves of a batch that the memory does not hold, and two ways to be faster on a CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn
from torch.nn.utils import parametrize

from undertone.audio.batches import ahead
from undertone.upstream.int8 import ROWS, int8_layers

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


# ---- Linear layers at the processor's own speed, for a frozen upstream on a CPU.
#
# oneDNN multiplies by a weight that lies in blocks as wide as the processor's registers, without sorting it again at
# each call, which is what torch.compile does under `freezing`, here without compiling for every length of utterance. A
# wav2vec2-base runs 1.1 times as fast, its hidden states move by less than 1e-5. Weight-normed convolutions keep the
# weight that they would compute again at each call.

PACKING = os.environ.get("UNDERTONE_PACKING", "1") != "0"  # =0 keeps to torch's public operations


@contextmanager
def packed(module: nn.Module, precision: str = "no") -> Iterator[None]:
    """While it lasts, `module` computes without gradients and, where oneDNN is available, from packed float32 weights.

    With `int8` its linear layers multiply as `int8_layers` says.

    The packed copies take as much memory as the linear weights do. Weights must not change meanwhile. Not for autocast,
    which would cast the inputs alone.
    """
    with _packed_layers(module) if precision == "no" else int8_layers(module):
        with torch.inference_mode(), parametrize.cached():
            yield


@contextmanager
def _packed_layers(module: nn.Module) -> Iterator[None]:
    layers = [layer for layer in module.modules() if type(layer) is nn.Linear and can_pack(layer)]
    try:
        for layer in layers:
            weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
            layer.forward = partial(_linear, weight, layer.bias)  # type: ignore[method-assign]
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def can_pack(layer: nn.Linear) -> bool:
    """Whether oneDNN takes the weight: float32, on the CPU; and this torch has the operations, which are private."""
    operations = all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise"))
    on_cpu = layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32
    return PACKING and torch.backends.mkldnn.is_available() and operations and on_cpu


def _linear(weight: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
    """(..., K) -> (..., N)."""
    return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")


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
