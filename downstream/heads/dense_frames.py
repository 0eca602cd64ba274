"""Dense layers on every frame."""

from __future__ import annotations

from collections.abc import Mapping

from undertone.downstream.head import HeadOutput
from undertone.downstream.heads.dense import DenseHead
from undertone.downstream.pooling import masked_mean, zero_padding
from undertone.upstream.types import Frames


class DenseFramesHead(DenseHead):
    """Frames -> standardised -> dense layers with batch norm, frame by frame -> one output a frame and task.

    As `dense`, with the layers before the pooling: convolutions of width 1, batch norms over all real frames of a
    batch. A task of the level `utterance` gets the mean of its frames' outputs. With `ladder=true` frames are
    reconstructed. The idea is ours; take `frames` where neighbouring frames should be seen. Options as of `dense`.
    """

    needs = "frames"
    levels = ("utterance", "frame")

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T, D)} -> logits (B, T, C), or (B, C) of whole utterances; the embedding is the frames' mean."""
        frames = self.only_stream(streams)
        hidden = self.layers(zero_padding(frames), frames.mask)  # (B, T, H)
        embedding = masked_mean(Frames(hidden, frames.lengths))  # (B, H)
        logits, means = self.outputs(hidden), self.outputs(embedding)  # linear: a mean of outputs is that of the mean
        whole = {task.name: means[task.name] for task in self.tasks if task.level == "utterance"}
        return HeadOutput(logits | whole, embedding, lengths=frames.lengths)
