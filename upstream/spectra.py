"""Frames of samples, power spectra, log-mel energies and deltas, for a batch of clips.

One implementation for the acoustic upstreams, the inputs of wav2vec2-BERT and Whisper, and their ONNX graphs. ONNX has
neither overlapping views nor a Fourier transform that every runtime knows: while torch's exporter traces, frames are
gathered by index and a transform is a matrix product, for which the exporter gives float64 samples.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.compliance import kaldi

WINDOW, HOP, FFT = 400, 160, 512  # Kaldi's frames: 25 ms and 10 ms at 16 kHz, the next power of two
PREEMPHASIS = 0.97
FLOOR = torch.finfo(torch.float32).eps  # of an energy before its logarithm: Kaldi's, about -16 then


def is_exporting() -> bool:
    """Whether torch's ONNX exporter traces what runs now."""
    return torch.onnx.is_in_onnx_export()


def cut_frames(samples: Tensor, window: int, hop: int) -> Tensor:
    """(B, N) samples, N >= `window` -> (B, T, window), a frame every `hop` samples; a view, but in an export."""
    if not is_exporting():
        return samples.unfold(1, window, hop)
    last = torch.scalar_tensor(samples.shape[1], dtype=torch.int64) - window  # a number that the tracer follows
    count: Any = torch.div(last, hop, rounding_mode="floor") + 1
    starts = torch.arange(count)[:, None] * hop  # (T, 1)
    return samples[:, starts + torch.arange(window)]


def power_spectrum(frames: Tensor, size: int) -> Tensor:
    """(..., W) windowed frames -> (..., size // 2 + 1), the power of their Fourier transform of `size` >= W points."""
    if not is_exporting():
        return torch.fft.rfft(frames, n=size).abs().square()
    cosines, sines = fourier_basis(int(frames.shape[-1]), size)
    return (frames @ torch.from_numpy(cosines)).square() + (frames @ torch.from_numpy(sines)).square()


@lru_cache
def fourier_basis(window: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, (window, size // 2 + 1) float64 each."""
    turns = np.outer(np.arange(window), np.arange(size // 2 + 1)) % size  # in 1 / size
    return np.cos(2 * np.pi * turns / size), np.sin(2 * np.pi * turns / size)


class LogMel(nn.Module):
    """Kaldi's natural-log mel energies (Povey et al., ASRU 2011) of frames of 25 ms, without dither.

    Args:
        bank: (FFT / 2 + 1, M), from a power spectrum to mel energies.
        window: (400,).
    """

    def __init__(self, bank: Tensor, window: Tensor) -> None:
        super().__init__()
        self.bank = nn.Buffer(bank, persistent=False)
        self.window = nn.Buffer(window, persistent=False)

    @classmethod
    def kaldi(cls, num_mels: int) -> LogMel:
        """As `torchaudio.compliance.kaldi.fbank(num_mel_bins=num_mels)` at 16 kHz."""
        bank, _ = kaldi.get_mel_banks(num_mels, FFT, 16_000.0, 20.0, 8_000.0, 100.0, -500.0, 1.0)  # (M, FFT / 2)
        window = torch.hann_window(WINDOW, periodic=False).pow(0.85)
        return cls(torch.nn.functional.pad(bank, (0, 1)).T.contiguous(), window)

    def power(self, frames: Tensor) -> Tensor:
        """(B, T, 400) windowed frames -> (B, T, FFT / 2 + 1)."""
        return power_spectrum(frames, FFT)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, 400) samples -> (B, T, M)."""
        frames = frames - frames.mean(2, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], 2)
        power = self.power((frames - PREEMPHASIS * previous) * self.window)  # (B, T, FFT / 2 + 1)
        return (power @ self.bank).clamp(min=FLOOR).log()  # (B, T, M)


def deltas(features: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, D) and (B,) real frames -> (B, T, D), the change a frame by regression over 5 frames.

    As `torchaudio.functional.compute_deltas` of each clip: the first and the last real frame are repeated.
    """
    places = torch.arange(-2, features.shape[1] + 2, device=features.device).clamp(min=0)  # (T + 4,)
    places = torch.minimum(places[None], lengths[:, None] - 1)  # (B, T + 4)
    padded = features.gather(1, places[..., None].expand(-1, -1, features.shape[2]))  # (B, T + 4, D)
    first, second, fourth, fifth = padded[:, :-4], padded[:, 1:-3], padded[:, 3:-1], padded[:, 4:]
    return (-2 * first - second + fourth + 2 * fifth) / 10


def with_deltas(features: Tensor, lengths: Tensor, gains: tuple[float, float]) -> Tensor:
    """(B, T, D) and (B,) frames -> (B, T, 3 D): the features, their deltas and the deltas' deltas, times `gains`."""
    first = deltas(features, lengths)
    return torch.cat([features, gains[0] * first, gains[1] * deltas(first, lengths)], 2)
