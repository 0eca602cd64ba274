"""The probe: linear from the frames to the classes, SUPERB's emotion head."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.pooling import masked_mean
from undertone.downstream.task import Task
from undertone.upstream.types import Frames


class LinearHead(Head):
    """Linear(D -> 256), mean over the frames, Linear(256 -> classes); no non-linearity anywhere.

    Exactly the emotion probe of SUPERB (Yang et al. 2021) and the head of transformers'
    `*ForSequenceClassification(use_weighted_layer_sum=True)`. Linear before the pooling, so the means over the frames
    are all it needs. Take `attention` instead when the score matters more than comparing upstreams.

    Args:
        hidden_size: width of the projection.
    """

    needs = "mean"

    def __init__(self, input_sizes: Mapping[str, int], tasks: tuple[Task, ...], *, hidden_size: int = 256) -> None:
        super().__init__(input_sizes, tasks)
        (input_size,) = input_sizes.values()
        self.projector = nn.Linear(input_size, hidden_size)
        self.outputs = TaskOutputs(hidden_size, tasks)

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T, D)} -> logits; the embedding is the pooled projection (B, 256)."""
        frames = self.only_stream(streams)
        embedding = masked_mean(Frames(self.projector(frames.features), frames.lengths))  # (B, 256)
        return HeadOutput(self.outputs(embedding), embedding)
