"""Pitch and quality of the voice, frame by frame.

The period is found by the autocorrelation divided by the window's (Boersma, IFA Proceedings 17, 1993).
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

from undertone.upstream.spectra import HOP, WINDOW, fourier_basis, is_exporting, power_spectrum

RATE = 16_000
LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0  # of a speaking voice
PITCH_WINDOW = 640  # samples, 40 ms: two periods of a voice of 60 Hz reach into it
SHORTEST, LONGEST = int(RATE / HIGHEST_HZ), int(RATE / LOWEST_HZ)  # samples of a period

VOICED = 0.6  # periodic fraction of a frame's power from which on `voice` finds it voiced

FFT = 1024
FLOOR = 1e-10
FORMANTS_HZ = ((300, 1000), (1000, 2400), (2400, 3600))


def find_period(frames: Tensor, window: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """(..., 640) frames without their mean and times the (640,) window -> autocorrelation and lag of the period.

    The autocorrelation (..., LONGEST + 2) is of the lags from 0, at which it is 1; the lag is (..., 1) int64. `floor`
    is the least power at lag 0 (amplitude squared): the quieter a frame is below it, the less periodic it counts.
    """
    found = _autocorrelation(frames) / _autocorrelation(window)  # (..., LONGEST + 2)
    found = found / found[..., :1].clamp(min=floor)
    candidates = found[..., SHORTEST : LONGEST + 1]  # (..., lags)
    # The first lag about as good as the best one: at twice the period a voice is as like itself as at one.
    first = (candidates >= 0.9 * candidates.amax(-1, keepdim=True)).int().argmax(-1, keepdim=True)  # (..., 1)
    climbing = torch.arange(candidates.shape[-1], device=frames.device) <= first + SHORTEST // 2  # up to its peak
    return found, candidates.masked_fill(~climbing, -1).argmax(-1, keepdim=True) + SHORTEST


def _autocorrelation(frames: Tensor) -> Tensor:
    """(..., 640) -> (..., LONGEST + 2) of the lags from 0 to one beyond the longest period."""
    power = power_spectrum(frames, 2 * PITCH_WINDOW)  # (..., 641)
    if is_exporting():
        return power @ torch.from_numpy(_inverse_basis())
    similarity: Tensor = torch.fft.irfft(power)
    return similarity[..., : LONGEST + 2]


@lru_cache
def _inverse_basis() -> np.ndarray:
    """(641, LONGEST + 2) float64, from a power spectrum to the autocorrelation."""
    cosines, _ = fourier_basis(LONGEST + 2, 2 * PITCH_WINDOW)  # (LONGEST + 2, 641)
    twice = np.full((PITCH_WINDOW + 1, 1), 2.0)
    twice[[0, PITCH_WINDOW]] = 1.0  # the mean and the highest frequency occur once
    return twice * cosines.T / (2 * PITCH_WINDOW)


def voice(wave: Tensor) -> tuple[Tensor, Tensor]:
    """(N >= 400,) samples at 16 kHz -> (T, 9) pitch and voice quality, and (T,) periodic fraction of the power, 0 to 1.

    A 40 ms frame around each of the 25 ms frames of the other contours: octaves above 60 Hz, log ratio of harmonic to
    noise, level of the first harmonic over the second, the third, and the strongest part of each of `FORMANTS_HZ` (log
    power), change of the octaves and of the first harmonic's level since the frame before (absolute: jitter and shimmer
    from frame to frame; where a voice sets in, the frame before is unvoiced).
    """
    num_frames = (len(wave) - WINDOW) // HOP + 1
    padded = torch.nn.functional.pad(wave, ((PITCH_WINDOW - WINDOW) // 2, PITCH_WINDOW))
    frames = padded.unfold(0, PITCH_WINDOW, HOP)[:num_frames]  # (T, 640)
    frames = (frames - frames.mean(1, keepdim=True)) * _window(wave.device)
    period, periodic = _period(frames)  # (T,) each
    octaves = torch.log2(RATE / period / LOWEST_HZ)
    logs = torch.fft.rfft(frames, n=FFT).abs().square().clamp(min=FLOOR).log()  # (T, FFT / 2 + 1)
    first, second, third = (_harmonic(logs, number * FFT / period) for number in (1, 2, 3))
    hz = torch.fft.rfftfreq(FFT, 1 / RATE, device=wave.device)
    formants = [logs[:, (hz > low) & (hz < high)].amax(1) for low, high in FORMANTS_HZ]
    columns = [
        octaves,
        (periodic / (1 - periodic)).log(),
        *(first - other for other in (second, third, *formants)),
        _change(octaves).clamp(max=0.3),
        _change(first),
    ]
    return torch.stack(columns, 1), periodic


def _period(frames: Tensor) -> tuple[Tensor, Tensor]:
    """(T, 640) windowed frames -> the period in samples, refined by a parabola, and the autocorrelation there, (T,)."""
    found, lag = find_period(frames, _window(frames.device), FLOOR)
    before, at, after = (found.gather(1, lag + step)[:, 0] for step in (-1, 0, 1))  # (T,) each
    bend = (before - 2 * at + after).clamp(max=-1e-6)
    shift = ((before - after) / bend / 2).clamp(-0.5, 0.5)
    periodic = (at - (before - after) * shift / 4).clamp(1e-3, 0.9999)
    return lag[:, 0] + shift, periodic


def _harmonic(logs: Tensor, place: Tensor) -> Tensor:
    """(T, F) and (T,) places -> (T,), the highest of the three bins around each."""
    middle = place.round().long().clamp(1, logs.shape[1] - 2)[:, None]  # (T, 1)
    return torch.cat([logs.gather(1, middle + step) for step in (-1, 0, 1)], 1).amax(1)


def _change(contour: Tensor) -> Tensor:
    """(T,) -> (T,), the absolute difference from the frame before; 0 for the first."""
    return torch.nn.functional.pad(contour.diff().abs(), (1, 0))


@cache
def _window(device: torch.device) -> Tensor:
    return torch.hann_window(PITCH_WINDOW, device=device)
