"""The period of a voice, by the autocorrelation divided by the window's (Boersma, IFA Proceedings 17, 1993)."""

from __future__ import annotations

import torch
from torch import Tensor

RATE = 16_000
LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0  # of a speaking voice
WINDOW = 640  # samples, 40 ms: two periods of a voice of 60 Hz reach into it
SHORTEST, LONGEST = int(RATE / HIGHEST_HZ), int(RATE / LOWEST_HZ)  # samples of a period


def find_period(frames: Tensor, window: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """The period of each frame.

    Args:
        frames: (T, 640), without their mean and times the window.
        window: (640,).
        floor: least power at lag 0 (amplitude squared); the quieter a frame is below it, the less periodic it counts.

    Returns:
        the autocorrelation (T, LONGEST + 2) of the lags from 0, at which it is 1, and the lag of the period, (T, 1)
        int64 from `SHORTEST` to `LONGEST`.
    """
    found = _autocorrelation(frames) / _autocorrelation(window[None])  # (T, LONGEST + 2)
    found = found / found[:, :1].clamp(min=floor)
    candidates = found[:, SHORTEST : LONGEST + 1]  # (T, lags)
    # The first lag about as good as the best one: at twice the period a voice is as like itself as at one.
    first = (candidates >= 0.9 * candidates.amax(1, keepdim=True)).int().argmax(1, keepdim=True)  # (T, 1)
    climbing = torch.arange(candidates.shape[1], device=frames.device) <= first + SHORTEST // 2  # up to its peak
    return found, candidates.masked_fill(~climbing, -1).argmax(1, keepdim=True) + SHORTEST


def _autocorrelation(frames: Tensor) -> Tensor:
    """(T, 640) -> (T, LONGEST + 2) of the lags from 0 to one beyond the longest period."""
    similarity: Tensor = torch.fft.irfft(torch.fft.rfft(frames, n=2 * WINDOW).abs().square())
    return similarity[:, : LONGEST + 2]
