"""How a head of one stream takes several: their frames joined into one sequence (early), or a head a stream (late)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from undertone.downstream.head import Head, HeadOutput, build_head, head_class
from undertone.downstream.pooling import masked_mean
from undertone.downstream.task import Task
from undertone.upstream.types import Frames, StreamShape

EARLY = ("concat", "gate", "attention")
LATE = "late"
WAYS = f"fusion={', '.join(EARLY)} or {LATE}"


def check_fusion(head: str, fusion: str | None, streams: tuple[str, ...]) -> None:
    """Refuse a head that cannot take these streams, and a fusion where there is nothing to join.

    Raises:
        ValueError: see above; the sentence says what to give instead.
    """
    cls = head_class(head)
    if fusion is not None and cls.takes_streams:
        raise ValueError(f"Head {head!r} takes the streams as they are, got fusion={fusion}. Leave it out.")
    if fusion is not None and len(streams) == 1:
        raise ValueError(
            f"fusion={fusion} joins several upstreams, got one. Leave it out, or give --upstream NAME=ID several times."
        )
    if fusion is None and len(streams) > 1 and not cls.takes_streams:
        raise ValueError(
            f"Head {head!r} takes one stream, got {', '.join(streams)}. Say how they are joined: {WAYS} "
            f"(undertone list settings explains them)."
        )
    if fusion not in (None, "concat") and cls.is_fitted:
        raise ValueError(
            f"Head {head!r} is fitted by a solver, which finds no weights in front of it or of several heads, got "
            f"fusion={fusion}. Use fusion=concat."
        )


# ---- Early: one sequence of frames.


class Fusion(nn.Module):
    """Frames of several streams -> one sequence, with the frames of the stream that has the fewest a second.

    Faster streams are averaged over the time of each such frame; what there is one of a clip stands at every frame.

    - `concat`: the streams' features side by side (the early fusion of Morais et al. 2022).
    - `gate`: linear projections of all streams to the widest stream's size, weighted by one learned number a stream;
      the numbers sum to 1 and start equal, as the weights of a layer sum.
    - `attention`: the same, the weights of each frame by what the streams hold there: softmax_s v' tanh(W h_s + b).

    Args:
        kind: `concat`, `gate` or `attention`.
        shapes: {stream: its shape}.
        means: join the means over each stream's real frames instead, a frame a clip: all that a head sees which is
            linear before its mean pooling.
    """

    def __init__(self, kind: str, shapes: Mapping[str, StreamShape], means: bool = False) -> None:
        super().__init__()
        self.kind, self.shapes, self.means = kind, dict(shapes), means
        sizes = {name: shape.hidden_size for name, shape in shapes.items()}
        self.output_size = sum(sizes.values()) if kind == "concat" else max(sizes.values())
        self.weights: nn.Parameter | None = None
        if kind == "concat":
            return
        self.project = nn.ModuleDict({name: nn.Linear(size, self.output_size) for name, size in sizes.items()})
        if kind == "gate":
            self.weights = nn.Parameter(torch.zeros(len(sizes)))
        else:
            first, last = nn.Linear(self.output_size, 128), nn.Linear(128, 1, bias=False)
            self.score = nn.Sequential(first, nn.Tanh(), last)

    def forward(self, streams: Mapping[str, Frames]) -> Frames:
        """{stream: (B, T_s, D_s)} -> (B, T, output_size)."""
        shapes = self.shapes
        if self.means:
            streams = {name: _mean(one) for name, one in streams.items()}
            shapes = {name: StreamShape(shape.num_layers, shape.hidden_size) for name, shape in shapes.items()}
        aligned, lengths = align(streams, shapes)
        if self.kind == "concat":
            return Frames(torch.cat(list(aligned.values()), -1), lengths)  # (B, T, sum of D)
        parts = torch.stack([self.project[name](features) for name, features in aligned.items()], -2)  # (B, T, S, W)
        scores = self.score(parts).squeeze(-1) if self.weights is None else self.weights  # (B, T, S) or (S,)
        return Frames((scores.softmax(-1)[..., None] * parts).sum(-2), lengths)  # (B, T, W)


def _mean(frames: Frames) -> Frames:
    """(B, T, D) -> (B, 1, D)."""
    return Frames(masked_mean(frames)[:, None], torch.ones_like(frames.lengths))


def align(streams: Mapping[str, Frames], shapes: Mapping[str, StreamShape]) -> tuple[dict[str, Tensor], Tensor]:
    """The streams at the frames of the one that has the fewest a second, which stays as it is; of several the first.

    Args:
        streams: {stream: (B, T_s, D_s)}.
        shapes: their times.

    Returns:
        {stream: (B, T, D_s)} and the (B,) int64 lengths of all.
    """
    hops = {name: shapes[name].hop for name in streams}
    slowest = max(hops, key=lambda name: hops[name] if hops[name] < math.inf else -1.0)
    lengths, size = streams[slowest].lengths, streams[slowest].features.shape[1]
    found = {
        name: one.features if name == slowest else _at(one, shapes[name], shapes[slowest], size)
        for name, one in streams.items()
    }
    return found, lengths


def _at(frames: Frames, own: StreamShape, other: StreamShape, size: int) -> Tensor:
    """(B, T, D) -> (B, size, D): the mean over the time of each frame of the other stream, weighted by the overlap.

    The first and the last real frame stand for all that is before and after. Of streams that are equally fast the
    nearest frame is taken.
    """
    if own.hop == math.inf:
        return frames.features[:, :1].expand(-1, size, -1)
    centres = other.start + other.hop * torch.arange(size, dtype=torch.float64)  # (size,), s
    if math.isclose(own.hop, other.hop, rel_tol=1e-3):
        places = ((centres - own.start) / own.hop).round()[:, None]  # (size, 1)
        weights = torch.ones_like(places)
    else:
        low = (centres - other.hop / 2 - own.start) / own.hop + 0.5  # (size,): frame j lies in [j, j + 1)
        high = low + other.hop / own.hop
        places = low.floor()[:, None] + torch.arange(math.ceil(other.hop / own.hop) + 1)  # (size, K)
        overlap = torch.minimum(high[:, None], places + 1) - torch.maximum(low[:, None], places)
        weights = overlap.clamp(min=0) * own.hop / other.hop  # (size, K), they sum to 1
    features, last = frames.features, frames.lengths[:, None] - 1  # (B, T, D), (B, 1)
    parts = []
    for place, weight in zip(places.T.to(last), weights.T.to(features), strict=True):
        near = place.clamp(min=0)[None].minimum(last)  # (B, size)
        parts.append(weight[:, None] * features.gather(1, near[..., None].expand(-1, -1, features.shape[2])))
    return reduce(torch.add, parts)


# ---- Late: one head a stream.


class StreamHeads(Head):
    """A head of its own for each stream, their embeddings side by side; a subclass says how their logits become one.

    Args:
        heads: {stream: its head}.
    """

    def __init__(self, input_sizes: Mapping[str, int], tasks: tuple[Task, ...], heads: Mapping[str, Head]) -> None:
        super().__init__(input_sizes, tasks)
        self.heads = nn.ModuleDict(heads)

    @abstractmethod
    def join(self, task: Task, logits: Mapping[str, Tensor]) -> Tensor:
        """{stream: (B, C)} -> (B, C)."""

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T_s, D_s)} -> the joined logits, and (B, E_1 + E_2 + ...)."""
        outputs: dict[str, HeadOutput] = {name: head({name: streams[name]}) for name, head in self.heads.items()}
        logits = {
            task.name: self.join(task, {name: one.logits[task.name] for name, one in outputs.items()})
            for task in self.tasks
        }
        losses = {f"{name}.{key}": loss for name, one in outputs.items() for key, loss in one.losses.items()}
        return HeadOutput(logits, torch.cat([one.embedding for one in outputs.values()], -1), losses)


class LateFusion(StreamHeads):
    """The same head for each stream, trained together; their logits are added.

    Where a head's outputs are linear in its embedding, as in `ecapa` and `linear`, that is one linear layer on the
    joined embeddings: the late fusion of Morais et al. 2022.

    Args:
        head: name of the head of every stream.
        options: of each.
    """

    def __init__(
        self, input_sizes: Mapping[str, int], tasks: tuple[Task, ...], *, head: str, options: Mapping[str, Any]
    ) -> None:
        over_time = [task.name for task in tasks if task.level == "frame"]
        if over_time:
            raise ValueError(
                f"fusion=late adds up a clip's logits, but {over_time[0]!r} is predicted frame by frame. "
                f"Use fusion=concat, gate or attention."
            )
        heads = {name: build_head(head, {name: size}, tasks, options) for name, size in input_sizes.items()}
        super().__init__(input_sizes, tasks, heads)

    def join(self, task: Task, logits: Mapping[str, Tensor]) -> Tensor:
        """Their sum."""
        return torch.stack(list(logits.values())).sum(0)
