"""Log power spectrogram: what is left when no auditory model is assumed."""

from __future__ import annotations

from functools import cache

import torch
import torchaudio
from torch import Tensor

from undertone.upstream.acoustic._base import Acoustic

FLOOR = torch.finfo(torch.float32).eps  # of a power before its logarithm


@cache
def _window(name: str, size: int, device: torch.device) -> Tensor:
    make = torch.hamming_window if name == "hamming" else torch.hann_window
    return make(size, device=device)


class Spectrogram(Acoustic):
    """Natural-log power of the short-time Fourier transform, Hann window of 25 ms every 10 ms: 201 bins of 40 Hz.

    Args:
        window_ms: length of a frame; a longer one has more and narrower bins.
        shape: of the window, `hann` or `hamming`.
        max_hz: bins above are left out.

    Raises:
        ValueError: another shape, or a window or a frequency that 16 kHz sound has not.
    """

    def __init__(self, window_ms: int = 25, shape: str = "hann", max_hz: int = 8000) -> None:
        super().__init__()
        if shape not in ("hann", "hamming"):
            raise ValueError(f"Upstream 'spectrogram': shape must be hann or hamming, got {shape!r}.")
        if window_ms < 1 or not 0 < max_hz <= self.sample_rate // 2:
            raise ValueError(
                f"Upstream 'spectrogram': window_ms must be >= 1 and max_hz 1 to 8000, got {window_ms} and {max_hz}."
            )
        self.window, self.shape = window_ms * self.sample_rate // 1000, shape
        self.hidden_size = max_hz * self.window // self.sample_rate + 1

    def features(self, wave: Tensor) -> Tensor:
        """(N,) samples -> (T, bins); offset and scale are about mean and deviation over read speech."""
        power = torchaudio.functional.spectrogram(
            wave,
            pad=0,
            window=_window(self.shape, self.window, wave.device),
            n_fft=self.window,
            hop_length=self.hop,
            win_length=self.window,
            power=2.0,
            normalized=False,
            center=False,
        )[: self.hidden_size]  # (bins, T)
        levels: Tensor = (power.clamp(min=FLOOR).log().T + 8) / 4  # (T, bins)
        return levels
