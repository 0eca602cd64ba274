"""Kaldi's log-mel energies (Povey et al., ASRU 2011) with everything that does not depend on the clip made once."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torchaudio.compliance import kaldi
from torchaudio.functional import compute_deltas

WINDOW, HOP, FFT = 400, 160, 512  # 25 ms and 10 ms at 16 kHz, the next power of two
PREEMPHASIS = 0.97
FLOOR = torch.finfo(torch.float32).eps  # of an energy before its logarithm: Kaldi's, about -16 then


@cache
def _povey_window(device: torch.device) -> Tensor:
    return torch.hann_window(WINDOW, periodic=False, device=device).pow(0.85)


@cache
def _mel_bank(num_mels: int, device: torch.device) -> Tensor:
    bank, _ = kaldi.get_mel_banks(num_mels, FFT, 16_000.0, 20.0, 8_000.0, 100.0, -500.0, 1.0)  # (mels, FFT / 2)
    return torch.nn.functional.pad(bank, (0, 1)).T.contiguous().to(device)  # (FFT / 2 + 1, mels)


def log_mel(wave: Tensor, num_mels: int) -> Tensor:
    """(N,) samples at 16 kHz -> (T, num_mels) natural-log mel energies, as `torchaudio.compliance.kaldi.fbank`."""
    frames = wave.unfold(0, WINDOW, HOP)  # (T, window)
    frames = frames - frames.mean(1, keepdim=True)
    previous = torch.cat([frames[:, :1], frames[:, :-1]], 1)  # (T, window)
    frames = (frames - PREEMPHASIS * previous) * _povey_window(wave.device)
    power = torch.fft.rfft(frames, n=FFT).abs().square()  # (T, FFT / 2 + 1)
    mels: Tensor = (power @ _mel_bank(num_mels, wave.device)).clamp(min=FLOOR).log()  # (T, mels)
    return mels


def with_deltas(features: Tensor, gains: tuple[float, float]) -> Tensor:
    """(T, D) -> (T, 3 D): the features, their deltas and the deltas' deltas (5 frames), times `gains`."""
    deltas = compute_deltas(features.T)  # (D, T)
    accelerations = compute_deltas(deltas)  # (D, T)
    return torch.cat([features, gains[0] * deltas.T, gains[1] * accelerations.T], 1)  # (T, 3 D)
