"""A network on the raw waveform: two long convolutions in place of a spectrogram, and a BLSTM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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
        self.short = ShortConvolution(filters, short_taps)
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
        maps = self.short(zero_padding(frames).reshape(num_utterances, 1, -1))  # (B, C, T D / 2)
        real = frames.mask[:, None, :, None]  # (B, 1, T, 1)
        maps = maps.reshape(num_utterances, -1, num_frames, size // 2) * real  # (B, C, T, D / 2), no bias in padding
        maps = self.dropout(maps.flatten(2))  # (B, C, T D / 2)
        maps = self.long(maps).unflatten(1, (self.num_maps, -1)).amax(2)  # (B, num_maps, T D / 2)
        maps = self.dropout(maps).reshape(num_utterances, self.num_maps, num_frames, size // 2)
        return Frames(maps.transpose(1, 2).flatten(2), frames.lengths)  # (B, T, num_maps D / 2)


class ShortConvolution(nn.Conv1d):
    """A convolution of one channel with "same" padding, a rectifier, and the maximum of each two neighbours.

    Stretches of samples are multiplied by all shifts of the filters at once: with one channel that is several times as
    fast as torch's convolution, and its gradient too.

    Args:
        filters: C.
        taps: K.
    """

    stretch = 32  # outputs of one product; even

    def __init__(self, filters: int, taps: int) -> None:
        super().__init__(1, filters, taps)
        self.around = ((taps - 1) // 2, taps // 2)  # zeros before and after: as many samples come out

    def forward(self, samples: Tensor) -> Tensor:
        """(B, 1, N), N even -> (B, C, N / 2)."""
        if torch.onnx.is_in_onnx_export():  # the exporter cuts no stretches out of any length
            return F.max_pool1d(super().forward(F.pad(samples, self.around)).relu(), 2)
        (taps,), length, stretch = self.kernel_size, samples.shape[2], self.stretch
        before, after = self.around
        windows = F.pad(samples[:, 0], (before, after + -length % stretch))
        windows = windows.unfold(1, stretch + taps - 1, stretch)  # (B, P, stretch + K - 1)
        shifted = F.pad(self.weight[:, 0], (stretch - 1, stretch - 1)).unfold(1, stretch + taps - 1, 1).flip(1)
        even, odd = (windows @ shifted[:, place::2].flatten(0, 1).mT for place in (0, 1))  # (B, P, C stretch / 2)
        found = torch.maximum(even, odd).unflatten(2, (self.out_channels, -1)).transpose(1, 2).flatten(2)
        return (found[..., : length // 2] + self.bias[:, None]).relu()  # type: ignore[index]


class LongConvolution(nn.Conv1d):
    """A convolution with thousands of taps, computed through the FFT block by block (overlap-save); "same" padding.

    Args:
        in_channels: C.
        out_channels: O.
        taps: K; a tap costs as good as nothing, where `Conv1d` multiplies C O K times a sample.
    """

    def __init__(self, in_channels: int, out_channels: int, taps: int) -> None:
        super().__init__(in_channels, out_channels, taps, padding="same")
        self.fft_size = 4 << (taps - 1).bit_length()  # 4 to 8 times the taps, so that most of a block is new

    def forward(self, signal: Tensor) -> Tensor:
        """(B, C, N) -> (B, O, N)."""
        if torch.onnx.is_in_onnx_export():  # the exporter knows no FFT
            return super().forward(signal)
        length, (taps,) = signal.shape[2], self.kernel_size
        step = self.fft_size - taps + 1
        before = (taps - 1) // 2
        after = -(-length // step) * step + taps - 1 - before - length  # whole blocks
        dtype = torch.promote_types(signal.dtype, torch.float32)
        padded = F.pad(signal.to(dtype), (before, after))
        found: Tensor = _Correlation.apply(padded, self.weight.to(dtype), self.fft_size)[..., :length]  # (B, O, N)
        return found if self.bias is None else found + self.bias[:, None]


class _Correlation(torch.autograd.Function):
    """A signal with taps, in both directions by real FFTs alone; torch's gradient of one is a complex one of all sides.

    On a CPU an utterance at a time, which stays in the cache.
    """

    @staticmethod
    def forward(ctx: Any, signal: Tensor, weight: Tensor, size: int) -> Tensor:
        """(B, C, P step + K - 1), (O, C, K) -> (B, O, P step), with FFTs of `size` = step + K - 1 samples."""
        ctx.taps = weight.shape[2]
        ctx.step = step = size - ctx.taps + 1
        filters = torch.fft.rfft(weight, size).conj_physical()  # (O, C, F)
        ctx.save_for_backward(signal, filters)
        found = [
            torch.fft.irfft(_mixed(torch.fft.rfft(part.unfold(2, size, step)), filters), size)[..., :step]
            for part in _parts(signal)
        ]
        return torch.cat(found).flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_found: Tensor) -> tuple[Tensor, Tensor, None]:
        """(B, O, P step) -> (B, C, P step + K - 1), (O, C, K)."""
        signal, filters = ctx.saved_tensors
        step, size = ctx.step, ctx.step + ctx.taps - 1
        back = filters.conj_physical().transpose(0, 1)  # (C, O, F)
        d_signal, d_filters = torch.zeros_like(signal), torch.zeros_like(filters)
        parts = _parts(signal), _parts(d_found.unflatten(2, (-1, step))), _parts(d_signal)
        for part, d_blocks, d_part in zip(*parts, strict=True):
            d_spectra = torch.fft.rfft(d_blocks, size)  # (B, O, P, F)
            for place, block in enumerate(torch.fft.irfft(_mixed(d_spectra, back), size).unbind(2)):
                d_part[..., place * step : place * step + size] += block
            spectra = torch.fft.rfft(part.unfold(2, size, step)).transpose(0, 1).flatten(1, 2)  # (C, B P, F)
            d_outputs = d_spectra.transpose(0, 1).flatten(1, 2)  # (O, B P, F)
            if signal.device.type != "cpu":
                d_filters += torch.einsum("cpf,opf->ocf", spectra, d_outputs.conj())
                continue
            for d_filter, d_output in zip(d_filters, d_outputs, strict=True):
                d_filter += (spectra * d_output.conj()).sum(1)  # (C, F)
        return d_signal, torch.fft.irfft(d_filters, size)[..., : ctx.taps], None


def _parts(batch: Tensor) -> Sequence[Tensor]:
    """(B, ...) -> of an utterance each on a CPU, else whole."""
    return batch.split(1 if batch.device.type == "cpu" else len(batch))


def _mixed(spectra: Tensor, filters: Tensor) -> Tensor:
    """(B, C, P, F), (O, C, F) -> (B, O, P, F), the sum over C of the products."""
    if spectra.device.type != "cpu":  # where a product of all is one launch
        return torch.einsum("bcpf,ocf->bopf", spectra, filters)
    found = spectra.new_empty(len(spectra), len(filters), *spectra.shape[2:])
    for output, own in enumerate(filters):
        torch.mul(spectra[:, 0], own[0], out=found[:, output])
        for channel in range(1, spectra.shape[1]):
            found[:, output].addcmul_(spectra[:, channel], own[channel])
    return found
