"""Sound and pictures over time: a network on the raw waveform beside the features of faces, and an LSTM on both."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from undertone.downstream.fusion import Fusion
from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.heads.trigeorgis2016 import ShortConvolution
from undertone.downstream.pooling import MeanPooling, zero_padding
from undertone.downstream.task import Task
from undertone.upstream.types import Frames, StreamShape

WAVEFORM, VIDEO = "waveform", "video"
HOP_S = 0.04  # of both streams
FUSIONS = ("concat", "attention")


class Tzirakis2017Head(Head):
    """Waveform, video or both -> LSTM -> one output a frame of 40 ms, or one an utterance.

    Tzirakis, Trigeorgis, Nicolaou, Schuller & Zafeiriou, "End-to-End Multimodal Emotion Recognition using Deep Neural
    Networks", IEEE JSTSP 11(8), 2017 (arXiv 1704.08619), as in their code: each 40 ms of sound by itself through two
    convolutions, rectified, with a maximum over pairs of samples after the first and over groups of channels after the
    second (640 samples -> 1,280 features), beside the 2,048 features of a ResNet-50; both go into two LSTM layers,
    forwards in time. There is no attention in it, unless `fusion` asks for it. Theirs has peepholes and clipped cells,
    ours is torch's LSTM. The streams are called waveform and video; the defaults are narrow, the system of this name
    has the sizes of their code.

    Args:
        filters: channels of both convolutions.
        num_maps: channels that are left of the second by the maximum over `filters / num_maps` neighbours.
        short_taps: samples that the first convolution sees.
        long_taps: samples at half the rate that the second one sees.
        hidden_size: units of each layer of the LSTM.
        num_layers: of the LSTM.
        dropout: of the samples, in training.
        fusion: of two streams: concat, or attention (see `Fusion`), which is not in the paper.
    """

    takes_streams = True
    levels = ("utterance", "frame")

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        tasks: tuple[Task, ...],
        *,
        filters: int = 8,
        num_maps: int = 4,
        short_taps: int = 20,
        long_taps: int = 40,
        hidden_size: int = 32,
        num_layers: int = 2,
        dropout: float = 0.5,
        fusion: str = "concat",
    ) -> None:
        super().__init__(input_sizes, tasks)
        if unknown := [name for name in input_sizes if name not in (WAVEFORM, VIDEO)]:
            raise ValueError(
                f"Head 'tzirakis2017' takes streams called {WAVEFORM} and {VIDEO}, got {unknown[0]!r}. Name each "
                f"upstream: --upstream waveform --upstream video=microsoft/resnet-50."
            )
        size = input_sizes.get(WAVEFORM, 2)
        if size % 2 or filters % num_maps or fusion not in FUSIONS:
            raise ValueError(
                f"Head 'tzirakis2017': frames of an even number of samples, filters that num_maps divides and a fusion "
                f"of {' or '.join(FUSIONS)} are needed, got {size} samples, {filters} filters, num_maps={num_maps} and "
                f"{fusion!r}."
            )
        sizes = dict(input_sizes)
        branches: dict[str, nn.Module] = {}
        if WAVEFORM in sizes:
            branches[WAVEFORM] = WaveformBranch(filters, num_maps, short_taps, long_taps, dropout)
            sizes[WAVEFORM] = num_maps * size // 2
        self.branches = nn.ModuleDict(branches)
        shapes = {name: StreamShape(1, one, HOP_S) for name, one in sizes.items()}
        self.fusion = Fusion(fusion if len(sizes) > 1 else "concat", shapes)
        self.rnn = nn.LSTM(self.fusion.output_size, hidden_size, num_layers, batch_first=True)
        self.pooling = MeanPooling(hidden_size)
        self.outputs = TaskOutputs(hidden_size, tuple(task for task in tasks if task.level == "utterance"))
        self.frame_outputs = TaskOutputs(hidden_size, tuple(task for task in tasks if task.level == "frame"))

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T, D_s)} -> logits (B, C) or (B, T, C); the embedding is (B, hidden_size).

        Raises:
            ValueError: the streams do not have the same frames.
        """
        joined = self.joined(streams)
        hidden = Frames(self.rnn(zero_padding(joined))[0], joined.lengths)  # (B, T, H)
        embedding = self.pooling(hidden).vector  # (B, H)
        logits = self.outputs(embedding) | self.frame_outputs(hidden.features)
        return HeadOutput(logits, embedding, lengths=hidden.lengths)

    def joined(self, streams: Mapping[str, Frames]) -> Frames:
        """{stream: (B, T, D_s)} -> (B, T, D), what the LSTM is given."""
        first, *others = (one.lengths for one in streams.values())
        if any(not torch.equal(first, one) for one in others):
            raise ValueError(
                "Head 'tzirakis2017': its streams need the same frames, one every 40 ms, got other numbers of them. "
                "Leave out options of the upstream waveform."
            )
        found = {
            name: Frames(self.branches[name](one.features), one.lengths) if name in self.branches else one
            for name, one in streams.items()
        }
        frames: Frames = self.fusion(found)
        return frames


class WaveformBranch(nn.Module):
    """Samples of 40 ms -> features, each frame by itself; the arguments are those of the head."""

    def __init__(self, filters: int, num_maps: int, short_taps: int, long_taps: int, dropout: float) -> None:
        super().__init__()
        self.num_maps = num_maps
        self.dropout = nn.Dropout(dropout)
        self.short = ShortConvolution(filters, short_taps)
        self.long = nn.Conv1d(filters, filters, long_taps)

    def forward(self, samples: Tensor) -> Tensor:
        """(B, T, N) -> (B, T, num_maps * N / 2)."""
        num_utterances, num_frames, size = samples.shape
        maps = self.dropout(samples).reshape(-1, 1, size)  # (B T, 1, N)
        maps = self.short(maps)  # (B T, filters, N / 2)
        maps = _same(self.long, maps).relu().unflatten(1, (self.num_maps, -1)).amax(2)  # (B T, num_maps, N / 2)
        return maps.reshape(num_utterances, num_frames, -1)


def _same(conv: nn.Conv1d, signal: Tensor) -> Tensor:
    """(B, C, N) -> (B, O, N): zeros before and after, as many samples as came in."""
    taps = conv.kernel_size[0]
    found: Tensor = conv(F.pad(signal, ((taps - 1) // 2, taps // 2)))
    return found
