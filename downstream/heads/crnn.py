"""Convolutions over the spectrogram, a bidirectional LSTM, pooling: the acoustic systems between 2015 and 2020."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.pooling import JoinedPooling, Pooled, masked_attention, zero_padding
from undertone.downstream.recurrent import BiLstm, LastStatePooling
from undertone.downstream.self_attention import SelfAttention
from undertone.downstream.spectral_cnn import SpectralCnn
from undertone.downstream.task import Task
from undertone.upstream.types import Frames


class CrnnHead(Head):
    """CNN over time and frequency -> bidirectional LSTM -> pooling -> one output a task.

    The graph of Huang & Narayanan, ICME 2017 (pooling=convolutional), of Li, Zhao & Kawahara, Interspeech 2019
    (pooling=attention, two tasks), and with channels=[] the recurrent part alone, on any upstream. The sizes are ours.
    Tasks of the level `frame` are predicted from the LSTM's frames.
    Take `attention` on a pretrained upstream: its frames have seen their neighbours already.

    Args:
        channels: maps of each convolution; []: no CNN.
        strides: [frames, bands] that each convolution moves.
        kernel_size: frames and bands that a convolution sees; odd.
        num_maps: of the input: 3 for `fbank`, whose frames are levels, deltas and accelerations.
        hidden_size: units of the LSTM in each direction, and the size of the embedding.
        num_layers: of the LSTM; 0: none.
        self_attention: transformer layers between the LSTM and the pooling; 0: none.
        num_heads: of each transformer layer.
        pooling: `convolutional`, `last` (where the two directions end), or as in `attention`: mean, attention, ...
        attention_kernel: frames that a score of the convolutional attention sees; odd, 1 = pointwise attention.
        dropout: of the frames before the LSTM and of the embedding.
    """

    levels = ("utterance", "frame")
    jitter = 0.1

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        tasks: tuple[Task, ...],
        *,
        channels: Sequence[int] = (32, 32, 64, 64),
        strides: Sequence[Sequence[int]] = ((2, 2), (2, 2), (1, 2), (1, 2)),
        kernel_size: int = 5,
        num_maps: int = 1,
        hidden_size: int = 128,
        num_layers: int = 1,
        self_attention: int = 0,
        num_heads: int = 4,
        pooling: str = "mean",
        attention_kernel: int = 9,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(input_sizes, tasks)
        for name, size in (("kernel_size", kernel_size), ("attention_kernel", attention_kernel)):
            if size < 1 or size % 2 == 0:
                raise ValueError(f"Head 'crnn': {name} must be odd and >= 1, got {size}.")
        (input_size,) = input_sizes.values()
        self.cnn = SpectralCnn(input_size, channels, strides, kernel_size, num_maps)
        self.rnn = BiLstm(self.cnn.output_size, hidden_size, num_layers, dropout) if num_layers else None
        size = self.rnn.output_size if self.rnn is not None else self.cnn.output_size
        self.context = SelfAttention(size, self_attention, num_heads, dropout) if self_attention else nn.Identity()
        self.pooling: Any
        if pooling == "last":
            self.pooling = LastStatePooling(size)
        elif pooling == "convolutional":
            self.pooling = ConvolutionalPooling(size, attention_kernel)
        else:
            self.pooling = JoinedPooling(pooling, size)
        self.embed = nn.Linear(self.pooling.output_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        utterance = [task for task in tasks if task.level == "utterance"]
        self.outputs = TaskOutputs(hidden_size, tuple(utterance))
        self.frame_outputs = TaskOutputs(size, tuple(task for task in tasks if task.level == "frame"))

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T, D)} -> logits, the embedding (B, hidden_size) and the attention (B, T')."""
        frames = self.cnn(self.only_stream(streams))  # (B, T', C)
        frames = Frames(self.dropout(frames.features), frames.lengths)
        frames = frames if self.rnn is None else self.rnn(frames)  # (B, T', 2 H)
        frames = self.context(frames)
        pooled = self.pooling(frames)
        embedding = self.embed(pooled.vector).relu()  # (B, H)
        logits = self.outputs(self.dropout(embedding)) | self.frame_outputs(self.dropout(frames.features))
        return HeadOutput(logits, embedding, pooled.losses, pooled.attention, frames.lengths, frames.lengths)


class ConvolutionalPooling(nn.Module):
    """Convolutional attention: a frame's score is a convolution over its neighbours, a = softmax(e) over real frames.

    Huang & Narayanan, ICME 2017: "convolutional attention" that learns the utterance structure; that its scores are
    one convolution over time is our reading. With a kernel of 1 it is pointwise attention, e_t = w' h_t + b.

    Args:
        input_size: D.
        kernel_size: frames that a score sees; odd.
    """

    def __init__(self, input_size: int, kernel_size: int) -> None:
        super().__init__()
        self.score = nn.Conv1d(input_size, 1, kernel_size, padding=kernel_size // 2)
        self.output_size = input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, D)."""
        features = zero_padding(frames)
        attention = masked_attention(self.score(features.transpose(1, 2)).squeeze(1), frames)  # (B, T)
        return Pooled(torch.einsum("bt,btd->bd", attention, features), attention)
