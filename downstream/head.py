"""The contract of every head: frames in, a prediction for every task out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from undertone.common.discovery import check_options, find_class
from undertone.downstream.task import KINDS, Task
from undertone.upstream.types import Frames


@dataclass(frozen=True)
class HeadOutput:
    """What a head returns."""

    # {task: (B, C)}, of a task of the level `frame` (B, T, C); a regression's C is 1, its logit the value
    logits: dict[str, Tensor]
    embedding: Tensor  # (B, E), the vector that the outputs are computed from
    # {name: (sum (), count ())}, the head's own losses in addition to the tasks'
    losses: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    # weights of the pooling at the head's frame rate, (B, T) or fewer frames; they sum to 1 over the real ones and are
    # zero on padding; None where there are none
    attention: Tensor | None = None
    # (B,) int64, real frames of each row of the logits of the level `frame`; None where there are none
    lengths: Tensor | None = None
    # (B,) int64, real frames of each row of the attention; None: up to its last weight above 0
    attention_lengths: Tensor | None = None

    def attention_of(self, row: int) -> Tensor:
        """(T,) weights of one utterance's real frames, which divide it evenly."""
        if self.attention is None:
            raise ValueError("This head has no attention.")
        weights = self.attention[row]  # (T,)
        length = int(weights.nonzero().max()) + 1 if self.attention_lengths is None else self.attention_lengths[row]
        return weights[: int(length)]


def task_output(task: Task, logits: Tensor) -> Tensor:
    """(..., C) logits -> what a user reads, float32: probabilities, or values within the task's limits."""
    values = logits.float()
    if task.has_classes:
        return values.softmax(-1)
    return values if task.limits is None else values.clamp(*task.limits)


def readable(task: Task, output: Sequence[float]) -> dict[str, Any] | float:
    """One utterance's `task_output` as a user reads it: {"label", "scores": {label: probability}}, or a value."""
    if not task.has_classes:
        return output[0]
    best = max(range(len(output)), key=output.__getitem__)
    return {"label": task.labels[best], "scores": dict(zip(task.labels, output, strict=True))}


class Head(nn.Module, ABC):
    """Frames of one or more streams -> logits; a subclass in `downstream/heads/NAME.py` is found by that name.

    Its constructor takes `input_sizes`, {stream: D}, of one stream unless it `takes_streams`, and the tasks to predict;
    the keyword arguments are its options: `head.NAME=value` on the command line.
    """

    # several streams at once, each with its own frames; `fusion` joins them for every other head
    takes_streams: ClassVar[bool] = False

    # `frames`, or `mean` when the head is linear before its mean pooling: it is then trained and scored on the means
    # over the frames alone, which gives the same numbers from a thousandth of the data
    needs: ClassVar[Literal["frames", "mean"]] = "frames"
    levels: ClassVar[tuple[str, ...]] = ("utterance",)  # of the tasks that it can be given
    kinds: ClassVar[tuple[str, ...]] = KINDS  # of these tasks
    # a solver finds the weights from all training utterances at once (see `FittedHead`)
    is_fitted: ClassVar[bool] = False
    per_task: ClassVar[tuple[str, ...]] = ()  # options of which a sweep chooses a value for each task
    # how freely utterances of unlike length share a training batch, at most (see `epoch_batches`): low where padding
    # frames cost as much as real ones
    jitter: ClassVar[float] = 1.0

    def __init__(self, input_sizes: Mapping[str, int], tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.input_sizes = dict(input_sizes)
        self.tasks = tasks

    @abstractmethod
    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T, D)} -> logits and embedding. Batch and padding must not change an utterance's logits."""

    def only_stream(self, streams: Mapping[str, Frames]) -> Frames:
        """The frames of a head that takes one stream."""
        (frames,) = streams.values()
        return frames


class TaskOutputs(nn.Module):
    """One linear layer a task on a shared embedding."""

    def __init__(self, input_size: int, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.names = [task.name for task in tasks]
        # Prefixed, because nn.ModuleDict refuses names that are its own methods ("type", "items"), and dots.
        self.layers = nn.ModuleDict({_key(task.name): nn.Linear(input_size, task.num_outputs) for task in tasks})

    def layer(self, task: str) -> nn.Module:
        """The linear layer of one task."""
        return self.layers[_key(task)]

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """(B, E) -> {task: (B, C)}."""
        return {name: self.layer(name)(embedding) for name in self.names}


def _key(task_name: str) -> str:
    return "task_" + task_name.replace(".", "_")


def head_class(name: str) -> type[Head]:
    """The head that `name` stands for: a module of `undertone.downstream.heads`, ./file.py or pkg.mod:Class."""
    return find_class(name, "undertone.downstream.heads", Head)  # type: ignore[type-abstract]


def check_head_tasks(name: str, tasks: tuple[Task, ...]) -> None:
    """Refuse tasks of a level or kind that the head does not predict."""
    for task in tasks:
        if task.kind not in head_class(name).kinds:
            raise ValueError(
                f"Head {name!r} predicts no {task.kind}, which {task.name!r} is; it takes "
                f"{' and '.join(head_class(name).kinds)}. Use head=attention, or leave soft_labels out."
            )
        if task.level not in head_class(name).levels:
            raise ValueError(
                f"Head {name!r} gives one output an utterance, but {task.name!r} is predicted frame by frame. "
                f"Use head=frames."
            )


def build_head(name: str, input_sizes: Mapping[str, int], tasks: tuple[Task, ...], options: Mapping[str, Any]) -> Head:
    """A new head by name, its weights drawn from torch's current random state.

    Raises:
        ValueError: an option that it has not, or a task of a level or kind that it does not predict.
    """
    check_options("Head", name, head_class(name), options)
    check_head_tasks(name, tasks)
    cls: Any = head_class(name)
    return cls(input_sizes, tasks, **options)
