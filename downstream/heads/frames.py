"""One prediction a frame, for values that are annotated over time."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.pooling import masked_mean, zero_padding
from undertone.downstream.task import Task
from undertone.upstream.types import Frames


class FramesHead(Head):
    """Convolution over neighbouring frames -> one output a frame and task.

    A task of the level `utterance` gets the mean of its frames' outputs. The sizes are ours. Where only whole
    utterances are labelled, `attention` is the better choice.

    Args:
        hidden_size: channels of the convolution.
        kernel_size: frames that the convolution sees; odd.
        dropout: of whole input features over a clip and of hidden frames.
    """

    levels = ("utterance", "frame")

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        tasks: tuple[Task, ...],
        *,
        hidden_size: int = 128,
        kernel_size: int = 9,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(input_sizes, tasks)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"Head 'frames': kernel_size must be odd and >= 1, got {kernel_size}.")
        (input_size,) = input_sizes.values()
        self.feature_dropout = nn.Dropout1d(dropout)
        self.dropout = nn.Dropout(dropout)
        self.convolution = nn.Conv1d(input_size, hidden_size, kernel_size, padding=kernel_size // 2)
        self.norm = nn.LayerNorm(hidden_size)
        self.outputs = TaskOutputs(hidden_size, tasks)

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T, D)} -> logits (B, T, C), or (B, C) of whole utterances; the embedding is the frames' mean."""
        frames = self.only_stream(streams)
        features = self.feature_dropout(zero_padding(frames).transpose(1, 2))  # (B, D, T)
        hidden = self.norm(self.convolution(features).transpose(1, 2)).relu()  # (B, T, H)
        logits = self.outputs(self.dropout(hidden))  # (B, T, C) each
        for task in self.tasks:
            if task.level == "utterance":
                logits[task.name] = masked_mean(Frames(logits[task.name], frames.lengths))  # (B, C)
        embedding = masked_mean(Frames(hidden, frames.lengths))  # (B, H)
        return HeadOutput(logits, embedding, lengths=frames.lengths)
