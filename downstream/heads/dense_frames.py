"""Dense layers on every frame."""

from __future__ import annotations

from collections.abc import Mapping

from undertone.downstream.dense_layers import DenseLayers
from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.pooling import masked_mean, zero_padding
from undertone.downstream.task import Task
from undertone.upstream.types import Frames


class DenseFramesHead(Head):
    """Frames -> standardised -> dense layers with batch norm, frame by frame -> one output a frame and task.

    As `dense`, with layers before the pooling: convolutions of width 1, batch norms over all real frames of a batch. A
    task of the level `utterance` gets the mean of its frames' outputs. With `ladder=true` frames are reconstructed. The
    idea is ours; take `frames` where neighbouring frames should be seen.

    Args:
        input_sizes: {stream: D}, one stream.
        tasks: what is predicted.
        hidden_size: width of the layers.
        num_layers: how many.
        dropout: of the input.
    """

    levels = ("utterance", "frame")

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
        """{stream: (B, T, D)} -> logits (B, T, C), or (B, C) of whole utterances; the embedding is the frames' mean."""
        frames = self.only_stream(streams)
        hidden = self.layers(zero_padding(frames), frames.mask)  # (B, T, H)
        embedding = masked_mean(Frames(hidden, frames.lengths))  # (B, H)
        logits, means = self.outputs(hidden), self.outputs(embedding)  # linear: a mean of outputs is that of the mean
        whole = {task.name: means[task.name] for task in self.tasks if task.level == "utterance"}
        return HeadOutput(logits | whole, embedding, lengths=frames.lengths)
