"""Dense layers on one vector an utterance: the encoder of Parthasarathy & Busso."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from undertone.downstream.dense_layers import DenseLayers
from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.pooling import masked_mean
from undertone.downstream.task import Task
from undertone.upstream.types import Frames


class DenseHead(Head):
    """Mean over the frames -> standardised -> dense layers with batch norm -> one output a task.

    The network of Parthasarathy & Busso (IEEE TASLP 28, 2020, arXiv 1905.02921) on functionals, two layers of 256; made
    for `ladder=true`, which reconstructs each of its layers. The batch norm is that of the ladder network. Take
    `dense_frames` where frames should be reconstructed, `svm` where there is little data.

    Args:
        hidden_size: width of the layers.
        num_layers: how many.
        dropout: of the input.
    """

    needs: ClassVar[Literal["frames", "mean"]] = "mean"

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        tasks: tuple[Task, ...],
        *,
        hidden_size: int = 256,
        num_layers: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_sizes, tasks)
        (input_size,) = input_sizes.values()
        self.layers = DenseLayers(input_size, hidden_size, num_layers, dropout)
        self.outputs = TaskOutputs(hidden_size, tasks)

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T, D)} -> logits; the embedding is the last layer (B, H)."""
        frames = self.only_stream(streams)
        pooled = masked_mean(frames).unsqueeze(1)  # (B, 1, D)
        embedding = self.layers(pooled, frames.mask[:, :1]).squeeze(1)  # (B, H)
        return HeadOutput(self.outputs(embedding), embedding)
