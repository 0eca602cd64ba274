"""Log power spectrogram: what is left when no auditory model is assumed."""

from __future__ import annotations

from functools import cache

import torch
import torchaudio
from torch import Tensor

from undertone.upstream.acoustic._base import Acoustic

FLOOR = torch.finfo(torch.float32).eps  # of a power before its logarithm


@cache
def _hann_window(size: int, device: torch.device) -> Tensor:
    return torch.hann_window(size, device=device)


class Spectrogram(Acoustic):
    """Natural-log power of the short-time Fourier transform, Hann window of 25 ms every 10 ms: 201 bins of 40 Hz."""

    hidden_size = 201

    def features(self, wave: Tensor) -> Tensor:
        """(N,) samples -> (T, 201); offset and scale are about mean and deviation over read speech."""
        power = torchaudio.functional.spectrogram(
            wave,
            pad=0,
            window=_hann_window(self.window, wave.device),
            n_fft=self.window,
            hop_length=self.hop,
            win_length=self.window,
            power=2.0,
            normalized=False,
            center=False,
        )  # (201, T)
        levels: Tensor = (power.clamp(min=FLOOR).log().T + 8) / 4  # (T, 201)
        return levels
