"""A network on the raw waveform: two long convolutions in place of a spectrogram, and a BLSTM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.pooling import MeanPooling, zero_padding
from undertone.downstream.recurrent import BiLstm, LastStatePooling
from undertone.downstream.task import Task
from undertone.upstream.types import Frames

POOLINGS = {"mean": MeanPooling, "last": LastStatePooling}


class Trigeorgis2016Head(Head):
    """Waveform -> two convolutions -> BLSTM -> one output a frame, or one an utterance.

    Trigeorgis et al., "Adieu features?", ICASSP 2016: conv of 5 ms, half-wave rectifier, pooling by 2 in time, conv of
    500 ms, max over groups of channels, frames of 40 ms, BLSTM. The frames are to be those of the upstream `waveform`,
    an even number of samples each, laid end to end. The defaults are narrow; the system of this name has the paper's
    size (40 filters, 2 x 128 units).

    Args:
        filters: channels of both convolutions.
        num_maps: channels that are left of them by the max over `filters / num_maps` neighbours.
        short_taps: samples that the first convolution sees: 5 ms.
        long_taps: samples at half the rate that the second one sees: 500 ms.
        hidden_size: units of the BLSTM in each direction.
        num_layers: of the BLSTM.
        noise: deviation of the Gaussian noise on the samples in training.
        dropout: after both convolutions.
        pooling: what an utterance's outputs come from: `mean` of the frames, or `last`, where the two directions end.
    """

    levels = ("utterance", "frame")
    jitter = 0.1

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        tasks: tuple[Task, ...],
        *,
        filters: int = 8,
        num_maps: int = 2,
        short_taps: int = 80,
        long_taps: int = 4000,
        hidden_size: int = 32,
        num_layers: int = 2,
        noise: float = 0.0,
        dropout: float = 0.5,
        pooling: str = "mean",
    ) -> None:
        super().__init__(input_sizes, tasks)
        (frame_size,) = input_sizes.values()
        if frame_size % 2 or filters % num_maps:
            raise ValueError(
                f"Head 'trigeorgis2016': frames of an even number of samples and filters that num_maps divides are "
                f"needed, got {frame_size} samples, {filters} filters and num_maps={num_maps}."
            )
        if pooling not in POOLINGS:
            raise ValueError(f"Head 'trigeorgis2016': pooling must be mean or last, got {pooling!r}.")
        self.num_maps, self.noise = num_maps, noise
        self.short = nn.Conv1d(1, filters, short_taps)
        self.around = ((short_taps - 1) // 2, short_taps // 2)  # zeros before and after: as many samples come out
        self.long = LongConvolution(filters, filters, long_taps)
        self.dropout = nn.Dropout(dropout)
        self.rnn = BiLstm(num_maps * frame_size // 2, hidden_size, num_layers)
        self.pooling: Any = POOLINGS[pooling](self.rnn.output_size)
        self.outputs = TaskOutputs(self.rnn.output_size, tuple(task for task in tasks if task.level == "utterance"))
        self.frame_outputs = TaskOutputs(self.rnn.output_size, tuple(task for task in tasks if task.level == "frame"))

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T, D) samples} -> logits (B, C) or (B, T, C); the embedding is (B, 2 hidden_size)."""
        hidden = self.rnn(self.front_end(self.only_stream(streams)))  # (B, T, 2 H)
        embedding = self.pooling(hidden).vector  # (B, 2 H)
        logits = self.outputs(embedding) | self.frame_outputs(hidden.features)
        return HeadOutput(logits, embedding, lengths=hidden.lengths)

    def front_end(self, frames: Frames) -> Frames:
        """(B, T, D) samples -> (B, T, num_maps * D / 2), the learned features of each frame."""
        num_utterances, num_frames, size = frames.features.shape
        if self.training and self.noise:
            frames = Frames(frames.features + self.noise * torch.randn_like(frames.features), frames.lengths)
        samples = zero_padding(frames).reshape(num_utterances, 1, -1)  # (B, 1, T D)
        maps = self.short(F.pad(samples, self.around)).relu()  # (B, C, T D)
        real = frames.mask[:, None, :, None]  # (B, 1, T, 1)
        maps = maps.reshape(num_utterances, -1, num_frames, size) * real  # (B, C, T, D), no bias in the padding
        maps = self.dropout(F.max_pool1d(maps.flatten(2), 2))  # (B, C, T D / 2)
        maps = self.long(maps).unflatten(1, (self.num_maps, -1)).amax(2)  # (B, num_maps, T D / 2)
        maps = self.dropout(maps).reshape(num_utterances, self.num_maps, num_frames, size // 2)
        return Frames(maps.transpose(1, 2).flatten(2), frames.lengths)  # (B, T, num_maps D / 2)


class LongConvolution(nn.Conv1d):
    """A convolution with thousands of taps, computed through the FFT block by block (overlap-save); "same" padding.

    Args:
        in_channels: C.
        out_channels: O.
        taps: K; a tap costs as good as nothing, where `Conv1d` multiplies C O K times a sample.
    """

    def __init__(self, in_channels: int, out_channels: int, taps: int) -> None:
        super().__init__(in_channels, out_channels, taps, padding="same")
        self.fft_size = 2 << taps.bit_length()  # 2 to 4 times the taps, so that most of a block is new

    def forward(self, signal: Tensor) -> Tensor:
        """(B, C, N) -> (B, O, N)."""
        if torch.onnx.is_in_onnx_export():  # the exporter knows no FFT
            return super().forward(signal)
        length, (taps,) = signal.shape[2], self.kernel_size
        step = self.fft_size - taps + 1
        num_blocks = -(-length // step)
        before = (taps - 1) // 2
        after = (num_blocks - 1) * step + self.fft_size - before - length
        dtype = torch.promote_types(signal.dtype, torch.float32)
        blocks = F.pad(signal.to(dtype), (before, after)).unfold(2, self.fft_size, step)  # (B, C, P, fft_size)
        spectra = torch.fft.rfft(blocks)  # (B, C, P, fft_size / 2 + 1)
        filters = torch.fft.rfft(self.weight.to(dtype), self.fft_size).conj()  # (O, C, fft_size / 2 + 1)
        filtered = torch.einsum("bcpf,ocf->bopf", spectra, filters)
        found: Tensor = torch.fft.irfft(filtered, self.fft_size)[..., :step].flatten(2)[..., :length]  # (B, O, N)
        return found if self.bias is None else found + self.bias[:, None]
