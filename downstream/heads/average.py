"""One head a stream, each trained alone; what they predict is averaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from undertone.downstream.fusion import StreamHeads
from undertone.downstream.head import build_head, head_class
from undertone.downstream.task import Task
from undertone.upstream.load import is_outside


@dataclass(frozen=True)
class Part:
    """What `heads` says of a stream."""

    head: str
    options: dict[str, Any]
    weight: float
    C: tuple[float, ...]  # values to choose from; none where it is given or the head has no C


class AverageHead(StreamHeads):
    """A head of its own for each stream, trained alone: the mean of their log probabilities, and of their values.

    An ensemble in one model: a network that is trained by gradients may stand beside a head that a solver fits, and
    none of them learns less because another one knows the answer already. `fusion=late` trains such heads together.

    Args:
        heads: {stream: the name of its head, or its options with the name as `head`}, as in
            `head.heads={ssl: attention, contours: {head: logistic, C: 1e-3}}`; of other streams `attention`. Of several
            C, `C: [1e-4, 1e-3]`, inner folds over the training speakers choose. `weight: 0.5` lets a stream count half
            as much as another one.
    """

    takes_streams: ClassVar[bool] = True

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        tasks: tuple[Task, ...],
        *,
        heads: Mapping[str, str | Mapping[str, Any]] | None = None,
    ) -> None:
        parts = parts_of(heads, input_sizes)
        built = {
            name: build_head(one.head, {name: input_sizes[name]}, tasks, one.options) for name, one in parts.items()
        }
        super().__init__(input_sizes, tasks, built)
        total = sum(part.weight for part in parts.values())
        self.shares = {stream: part.weight / total for stream, part in parts.items()}

    def join(self, task: Task, logits: Mapping[str, Tensor]) -> Tensor:
        """The weighted mean; of classes that of log probabilities, which have the same scale in every head."""
        comparable = {name: one.log_softmax(-1) if task.has_classes else one for name, one in logits.items()}
        return torch.stack([self.shares[name] * one for name, one in comparable.items()]).sum(0)


def parts_of(heads: Any, streams: Iterable[str]) -> dict[str, Part]:
    """{stream: its head}, of what `heads` says.

    Raises:
        ValueError: heads that are no mapping or name another stream; for one of them neither a name nor options, code
            from outside, a head of several streams, or a weight of 0 or less.
    """
    streams = list(streams)
    if not isinstance(heads, Mapping | None):
        raise ValueError(f"Head 'average': heads must be {{stream: head}}, such as {{ssl: attention}}, got {heads!r}.")
    if unknown := sorted(map(str, {*(heads or {})} - {*streams})):
        raise ValueError(
            f"Head 'average': heads has {unknown[0]!r}, and the streams are {', '.join(streams)}. Name these."
        )
    return {stream: _part(stream, (heads or {}).get(stream, "attention")) for stream in streams}


def _part(stream: str, given: Any) -> Part:
    options = dict(given) if isinstance(given, Mapping) else {"head": given}
    name, weight = options.pop("head", "attention"), options.pop("weight", 1.0)
    if not isinstance(name, str):
        raise ValueError(
            f"Head 'average': the head of {stream!r} is a name or options, such as logistic or "
            f"{{head: logistic, C: 1e-3}}, got {given!r}."
        )
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
        raise ValueError(f"Head 'average': the weight of {stream!r} must be a number > 0, got {weight!r}.")
    if is_outside(name):
        raise ValueError(
            f"Head 'average': {name!r} is code from outside undertone, which it does not take. Name one of "
            f"`undertone list heads`; fusion=late takes code of your own."
        )
    cls = head_class(name)
    if cls.takes_streams:
        raise ValueError(f"Head 'average': {name!r} takes several streams, and {stream!r} is one. Give another head.")
    several = isinstance(options.get("C"), list | tuple) and "C" in cls.per_task
    values = tuple(options.pop("C")) if several else ()
    if several and len(values) < 2:
        raise ValueError(f"Head 'average': C of {stream!r} must be a number or two values or more, got {list(values)}.")
    return Part(name, options, float(weight), values)
