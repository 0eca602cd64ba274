"""Spectra as operations that ONNX has: frames by index, the Fourier transform as a matrix product.

Inside it is float64, so that the long sums of a matrix product lose nothing against a fast Fourier transform.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from undertone.upstream.acoustic._kaldi import FFT, FLOOR, PREEMPHASIS
from undertone.upstream.hf import filterbank, whisper


def pieces(samples: Tensor, longest: Any, window: int, hop: int) -> Tensor:
    """(B, N) samples -> (B, longest, window), one piece every `hop` samples; `longest` may be a tracer's number."""
    starts = torch.arange(longest)[:, None] * hop + torch.arange(window)  # (T, window)
    return samples[:, starts]


class Power(nn.Module):
    """Pieces (B, T, W) float64 -> the power of their Fourier transform (B, T, size / 2 + 1).

    Args:
        window: (W,).
        size: of the transform, >= W.
    """

    def __init__(self, window: Tensor, size: int) -> None:
        super().__init__()
        turns = torch.outer(torch.arange(len(window)), torch.arange(size // 2 + 1)) % size  # in 1 / size
        angles = 2 * torch.pi * turns.double() / size
        self.transform = nn.Buffer(torch.cat([angles.cos(), angles.sin()], 1) * window.double()[:, None])  # (W, 2 F)

    def forward(self, pieces: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, F)."""
        real, imaginary = (pieces @ self.transform).chunk(2, dim=-1)
        return real.square() + imaginary.square()


class LogMel(nn.Module):
    """Pieces of 25 ms (B, T, 400) float64 -> Kaldi's log-mel energies (B, T, M).

    Args:
        bank: (257, M).
    """

    def __init__(self, bank: Tensor) -> None:
        super().__init__()
        self.bank = nn.Buffer(bank.double())
        self.power = Power(torch.hann_window(400, periodic=False, dtype=torch.float64).pow(0.85), FFT)

    def forward(self, pieces: Tensor) -> Tensor:
        """(B, T, 400) -> (B, T, M)."""
        pieces = pieces - pieces.mean(2, keepdim=True)
        previous = torch.cat([pieces[..., :1], pieces[..., :-1]], 2)
        levels: Tensor = (self.power(pieces - PREEMPHASIS * previous) @ self.bank).clamp(min=FLOOR).log()
        return levels


def filterbank_inputs(config: PreTrainedConfig, samples: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """As `undertone.upstream.hf.filterbank.filterbank_inputs`: what wav2vec2-BERT is fed with."""
    bank, _ = filterbank.constants(config.feature_projection_input_dim // filterbank.STACK)
    longest = filterbank.filterbank_frames(torch.scalar_tensor(samples.shape[1], dtype=torch.int64))
    frames = pieces(samples.double(), longest, filterbank.WINDOW, filterbank.HOP) * 2**15  # (B, F, 400)
    return filterbank.normalized_pairs(LogMel(torch.from_numpy(bank))(frames), lengths)


def whisper_inputs(config: PreTrainedConfig, samples: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """As `undertone.upstream.hf.whisper.whisper_inputs`: the features of 30 s, whatever N."""
    total, half = config.max_source_positions * whisper.STRIDE * whisper.HOP, whisper.WINDOW // 2
    samples = torch.cat([samples, samples.new_zeros(1, total).expand(samples.shape[0], -1)], 1)[:, :total].double()
    mirrored = [samples[:, 1 : half + 1].flip(1), samples, samples[:, -half - 1 : -1].flip(1)]
    frames = pieces(torch.cat(mirrored, 1), total // whisper.HOP, whisper.WINDOW, whisper.HOP)  # (B, 3000, 400)
    power = Power(torch.hann_window(whisper.WINDOW, dtype=torch.float64), whisper.WINDOW)(frames)
    filters = torch.from_numpy(whisper.mel_filters(config.num_mel_bins)).double()  # (201, M)
    return {"input_features": whisper.compressed((power @ filters).transpose(1, 2)).float()}
