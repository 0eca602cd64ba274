"""Pitch and quality of the voice in every frame, as contours over time."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from undertone.upstream.acoustic._kaldi import HOP, WINDOW
from undertone.upstream.acoustic._pitch import LOWEST_HZ, RATE, find_period
from undertone.upstream.acoustic._pitch import WINDOW as LONG

FFT = 1024
FLOOR = 1e-10
FORMANTS_HZ = ((300, 1000), (1000, 2400), (2400, 3600))


def voice(wave: Tensor) -> tuple[Tensor, Tensor]:
    """Pitch, refined by a parabola, and voice quality.

    Args:
        wave: (N,) samples at 16 kHz, N >= 400.

    Returns:
        (T, 9), a 40 ms frame around each of the 25 ms frames of the other contours: octaves above 60 Hz, log ratio of
        harmonic to noise, level of the first harmonic over the second, the third, and the strongest part of each of
        `FORMANTS_HZ` (log power), change of the octaves and of the first harmonic's level since the frame before
        (absolute: jitter and shimmer from frame to frame; where a voice sets in, the frame before is unvoiced). And
        (T,), the periodic share of the power, 0 to 1.
    """
    num_frames = (len(wave) - WINDOW) // HOP + 1
    padded = torch.nn.functional.pad(wave, ((LONG - WINDOW) // 2, LONG))
    frames = padded.unfold(0, LONG, HOP)[:num_frames]  # (T, long)
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
    return torch.hann_window(LONG, device=device)
