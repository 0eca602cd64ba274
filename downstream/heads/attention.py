"""Attention pooling with multitask outputs, the default head."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.pooling import JoinedPooling, zero_padding
from undertone.downstream.task import Task
from undertone.upstream.types import Frames, PackedFrames


class AttentionHead(Head):
    """Projection -> convolution over neighbouring frames -> pooling, attention and statistics -> one output a task.

    The multitask idea (emotion + gender from one attended vector) is Li, Zhao & Kawahara, Interspeech 2019; the sizes
    are ours. The projection makes an update of the head on 768 features a third of the work that a convolution of them
    is. Take `linear` to compare upstreams by SUPERB's protocol.

    Args:
        hidden_size: channels of projection and convolution, and size of the embedding.
        kernel_size: frames that the convolution sees; odd.
        stride: frames that the convolution moves; 2 halves the work after it.
        dropout: of whole input features over a clip, of hidden frames and of the embedding.
        pooling: mean, statistics, attention, attentive_statistics, multihead, queries, structured; several with `+`.
        num_heads: heads of `multihead` and `queries`, rows of `structured`.
        penalty: factor of the overlap loss of `structured`.
    """

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        tasks: tuple[Task, ...],
        *,
        hidden_size: int = 128,
        kernel_size: int = 5,
        stride: int = 2,
        dropout: float = 0.2,
        pooling: str = "attention+statistics",
        num_heads: int = 4,
        penalty: float = 0.3,
    ) -> None:
        super().__init__(input_sizes, tasks)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"Head 'attention': kernel_size must be odd and >= 1, got {kernel_size}.")
        if stride < 1:
            raise ValueError(f"Head 'attention': stride must be >= 1, got {stride}.")
        (input_size,) = input_sizes.values()
        self.stride = stride
        self.feature_dropout = nn.Dropout1d(dropout)
        self.dropout = nn.Dropout(dropout)
        self.projector = nn.Linear(input_size, hidden_size)
        self.convolution = nn.Conv1d(hidden_size, hidden_size, kernel_size, stride, padding=kernel_size // 2)
        self.norm = nn.LayerNorm(hidden_size)
        self.context: nn.Module = nn.Identity()  # between frames: `transformer`
        self.pooling = JoinedPooling(pooling, hidden_size, num_heads, penalty)
        self.embed = nn.Linear(self.pooling.output_size, hidden_size)
        self.outputs = TaskOutputs(hidden_size, tasks)

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T, D)} -> logits, the embedding (B, hidden_size) and the attention (B, ceil(T / stride))."""
        frames = self.only_stream(streams)
        projected = self._project(frames)  # (B, T, H)
        hidden = self.convolution(projected.transpose(1, 2)).transpose(1, 2)  # (B, T / stride, H)
        hidden = self.dropout(self.norm(hidden).relu())
        lengths = (frames.lengths - 1) // self.stride + 1
        pooled = self.pooling(self.context(Frames(hidden, lengths)))
        embedding = self.embed(pooled.vector).relu()  # (B, H)
        logits = self.outputs(self.dropout(embedding))
        return HeadOutput(logits, embedding, pooled.losses, pooled.attention, attention_lengths=lengths)

    def _project(self, frames: Frames) -> Tensor:
        """(B, T, D) -> (B, T, H), computed for the real frames alone where these are packed.

        Zeros on padding: the convolution then sees at a clip's end what it sees when the clip is alone.
        """
        lengths = frames.lengths
        if isinstance(frames, PackedFrames):
            rows = frames.rows  # (N, D)
            if self.training and self.feature_dropout.p:
                rows = rows * self._factors(rows, len(lengths)).repeat_interleave(lengths, 0)
            return PackedFrames(self.projector(rows), lengths).features
        features = frames.features
        if self.training and self.feature_dropout.p:
            features = features * self._factors(features, len(lengths)).unsqueeze(1)
        return zero_padding(Frames(self.projector(features), lengths))

    def _factors(self, like: Tensor, count: int) -> Tensor:
        """(B, D), 0 for an utterance's features that are dropped out."""
        dropped: Tensor = self.feature_dropout(like.new_ones(count, like.shape[-1], 1))
        return dropped[..., 0]
