"""ECAPA-TDNN: squeeze-and-excitation convolutions and channel-dependent attentive statistics."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.norms import MaskedBatchNorm
from undertone.downstream.pooling import Pooled, masked_attention, weighted_statistics, zero_padding
from undertone.downstream.task import Task
from undertone.upstream.types import Frames


class EcapaHead(Head):
    """ECAPA-TDNN on the frames -> an embedding -> one output a task.

    Desplanques et al. 2020 (arXiv 2005.07143); on the frames of an upstream for emotion: Morais et al. 2022 (arXiv
    2202.03896). Convolutions pad with zeros and batch norms see real frames alone, so that batching changes nothing.
    Large beside `attention` (6.2 million parameters at 512 channels), and over mean pooling Morais et al. gained
    0.1 to 0.4 points of accuracy with it.

    Args:
        channels: C of the convolutions, a multiple of `scale`; three times as many are pooled.
        scale: groups of a Res2 convolution.
        attention_size: bottleneck of the attention and of squeeze-and-excitation.
        embedding_size: size of the embedding.
    """

    jitter = 0.1

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        tasks: tuple[Task, ...],
        *,
        channels: int = 512,
        scale: int = 8,
        attention_size: int = 128,
        embedding_size: int = 192,
    ) -> None:
        super().__init__(input_sizes, tasks)
        if scale < 2 or channels % scale:
            raise ValueError(f"Head 'ecapa': channels must be a multiple of scale >= 2, got {channels} and {scale}.")
        (input_size,) = input_sizes.values()
        self.first = _Convolution(input_size, channels, kernel_size=5)
        self.blocks = nn.ModuleList(_Block(channels, dilation, scale, attention_size) for dilation in (2, 3, 4))
        self.last = _Convolution(3 * channels, 3 * channels)
        self.pooling = ChannelAttentionPooling(3 * channels, attention_size)
        self.norm = MaskedBatchNorm(self.pooling.output_size)
        self.embed = nn.Linear(self.pooling.output_size, embedding_size)
        self.outputs = TaskOutputs(embedding_size, tasks)

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T, D)} -> logits, the embedding (B, embedding_size) and the attention (B, T)."""
        frames = self.only_stream(streams)
        mask = frames.mask
        hidden = self.first(zero_padding(frames), mask)  # (B, T, C)
        outputs = []
        for block in self.blocks:
            hidden = block(hidden, mask)
            outputs.append(hidden)
        hidden = self.last(torch.cat(outputs, dim=-1), mask)  # (B, T, 3 C)
        pooled = self.pooling(Frames(hidden, frames.lengths))  # (B, 6 C)
        every = mask.any(1, keepdim=True)  # (B, 1), all real: the norm is over utterances
        embedding = self.embed(self.norm(pooled.vector.unsqueeze(1), every).squeeze(1))  # (B, E)
        return HeadOutput(
            self.outputs(embedding), embedding, attention=pooled.attention, attention_lengths=frames.lengths
        )


class ChannelAttentionPooling(nn.Module):
    """Channel- and context-dependent attentive statistics (ECAPA-TDNN, section 3.1).

    The context [h_t; mean; deviation] is scored for each channel: e_tc = v_c' tanh(BN(ReLU(W context_t + b))) + k_c,
    softmax over t, and the weighted mean and deviation of each channel.

    Args:
        input_size: D.
        attention_size: rows of W.
    """

    def __init__(self, input_size: int, attention_size: int = 128) -> None:
        super().__init__()
        self.context = nn.Linear(3 * input_size, attention_size)
        self.norm = MaskedBatchNorm(attention_size)
        self.score = nn.Linear(attention_size, input_size, bias=False)  # no softmax over time sees a k_c
        self.output_size = 2 * input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, 2 D); the attention is averaged over the channels."""
        features, mask = zero_padding(frames), frames.mask
        even = mask.to(features.dtype) / frames.lengths.unsqueeze(-1)  # (B, T)
        statistics = weighted_statistics(even.unsqueeze(-1), features).unsqueeze(1)  # (B, 1, 2 D)
        context = torch.cat([features, statistics.expand(-1, features.shape[1], -1)], dim=-1)  # (B, T, 3 D)
        scores = self.score(self.norm(self.context(context).relu(), mask).tanh())  # (B, T, D)
        attention = masked_attention(scores, frames)  # (B, T, D)
        return Pooled(weighted_statistics(attention, features), attention.mean(-1))


class _Convolution(nn.Module):
    """Convolution over time, ReLU, batch norm: (B, T, D) with zeros on padding -> (B, T, C) with zeros on padding."""

    def __init__(self, input_size: int, output_size: int, kernel_size: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)  # as many frames out as in; onnxruntime has no "same" with dilation
        self.convolution = nn.Conv1d(input_size, output_size, kernel_size, dilation=dilation, padding=padding)
        self.norm = MaskedBatchNorm(output_size)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        hidden = self.convolution(features.transpose(1, 2)).transpose(1, 2)  # (B, T, C)
        return self.norm(hidden.relu(), mask)


class _Block(nn.Module):
    """SE-Res2 block: 1x1, dilated convolutions group by group, 1x1, squeeze-and-excitation, and the input added."""

    def __init__(self, channels: int, dilation: int, scale: int, bottleneck: int) -> None:
        super().__init__()
        width = channels // scale
        self.enter = _Convolution(channels, channels)
        self.groups = nn.ModuleList(_Convolution(width, width, 3, dilation) for _ in range(scale - 1))
        self.leave = _Convolution(channels, channels)
        self.squeeze = nn.Linear(channels, bottleneck)
        self.excite = nn.Linear(bottleneck, channels)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """(B, T, C) and a (B, T) mask of the real frames -> (B, T, C)."""
        first, *rest = self.enter(features, mask).chunk(len(self.groups) + 1, dim=-1)
        parts, previous = [first], torch.zeros_like(first)
        for group, part in zip(self.groups, rest, strict=True):
            previous = group(part + previous, mask)  # the second group sees its own part alone
            parts.append(previous)
        hidden = self.leave(torch.cat(parts, dim=-1), mask)  # (B, T, C)
        mean = hidden.sum(1) / mask.sum(1, keepdim=True)  # (B, C), hidden is 0 on padding
        gate = self.excite(self.squeeze(mean).relu()).sigmoid()  # (B, C)
        return features + hidden * gate.unsqueeze(1)
