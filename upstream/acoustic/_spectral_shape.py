"""Level and shape of the spectrum of every frame, as contours over time."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from undertone.upstream.spectra import FFT, HOP, WINDOW

RATE = 16_000
FLOOR = 1e-10  # of a power before its logarithm
# Of each column over the speech of LibriSpeech, rounded; fixed numbers that bring the columns to one scale.
DEVIATIONS = torch.tensor([1, 0.17, 0.7, 1.4, 0.6, 0.9, 1.3, 1.5, 1.8, 2.1, 2.3, 7.6, 3, 0.64, 0.22, 3.1, 2, 2, 3.2])
EVEN = 0.85  # standard deviation of the columns as `evened`: that of cepstra on average
LEVEL = 0  # column of `spectral_shape`
ROLL_OFFS = (0.25, 0.5, 0.75, 0.9)
SLOPES_HZ = ((0, 500), (500, 1500), (1000, 8000))
BANDS_HZ = ((250, 650), (1000, 4000), (4000, 8000))


def spectral_shape(wave: Tensor) -> Tensor:
    """(N >= 400,) samples at 16 kHz -> (T, 19) of O(1): what eGeMAPS and ComParE measure of a frame's spectrum.

    25 ms every 10 ms: log RMS, fraction of sign changes, log loudness (cube root of the power, summed), centroid and
    its standard deviation (kHz), entropy (nats), frequencies below which 25, 50, 75 and 90 % of the power lie (kHz),
    flatness (log), slope of the log power (a kHz) over `SLOPES_HZ`, change of the unit spectrum since the frame before,
    log of the power below over above 1 kHz, log fractions of the power in `BANDS_HZ`.
    """
    frames = wave.unfold(0, WINDOW, HOP)  # (T, window)
    frames = frames - frames.mean(1, keepdim=True)
    khz = _frequencies(wave.device)  # (F,)
    power = torch.fft.rfft(frames * _window(wave.device), n=FFT).abs().square() + FLOOR  # (T, F)
    total, logs = power.sum(1), power.log()
    fraction = power / total[:, None]  # (T, F)
    centroid = fraction @ khz  # (T,)
    deviation = (fraction * (khz - centroid[:, None]).square()).sum(1).sqrt()
    below = fraction @ torch.ones(len(khz), len(khz), device=wave.device).triu()  # (T, F): a cumsum with a fixed order
    unit = torch.nn.functional.normalize(power.sqrt(), dim=1)  # (T, F)
    columns = [
        frames.square().mean(1).clamp(min=FLOOR).log() / 2,
        ((frames[:, 1:] >= 0) != (frames[:, :-1] >= 0)).float().mean(1),
        power.pow(1 / 3).sum(1).log(),
        centroid,
        deviation,
        -(fraction * fraction.clamp(min=FLOOR).log()).sum(1),
        *((below < part).sum(1) * khz[1] for part in ROLL_OFFS),
        logs.mean(1) - power.mean(1).log(),
        *(_slope(logs, khz, low / 1000, high / 1000) for low, high in SLOPES_HZ),
        torch.nn.functional.pad((unit[1:] - unit[:-1]).norm(dim=1), (1, 0)),
        _band(fraction, khz, 0.05, 1).log() - _band(fraction, khz, 1, 5).log(),
        *(_band(fraction, khz, low / 1000, high / 1000).log() for low, high in BANDS_HZ),
    ]
    return torch.stack(columns, 1)


def evened(shape: Tensor) -> Tensor:
    """(T, 19), see `spectral_shape` -> the same with columns that vary as much as cepstra do."""
    return shape * (EVEN / DEVIATIONS.to(shape.device))


def _slope(logs: Tensor, khz: Tensor, low: float, high: float) -> Tensor:
    """(T, F) -> (T,) slope of the least-squares line between two frequencies, a kHz."""
    inside = (khz >= low) & (khz <= high)
    centred = khz[inside] - khz[inside].mean()
    return logs[:, inside] @ centred / centred.square().sum()


def _band(fraction: Tensor, khz: Tensor, low: float, high: float) -> Tensor:
    """(T, F) -> (T,), the sum over `low` <= f < `high`."""
    return fraction[:, (khz >= low) & (khz < high)].sum(1)


@cache
def _frequencies(device: torch.device) -> Tensor:
    """(F,) kHz."""
    return torch.fft.rfftfreq(FFT, 1000 / RATE, device=device)


@cache
def _window(device: torch.device) -> Tensor:
    return torch.hann_window(WINDOW, device=device)
