"""Log power spectrogram: what is left when no auditory model is assumed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from undertone.upstream.acoustic._base import BatchedAcoustic
from undertone.upstream.spectra import FLOOR, cut_frames, power_spectrum, with_deltas


class Spectrogram(BatchedAcoustic):
    """Natural-log power of the short-time Fourier transform, Hann window of 25 ms every 10 ms: 201 bins of 40 Hz.

    Args:
        window_ms: length of a frame; a longer one has more and narrower bins.
        shape: of the window, `hann` or `hamming`.
        max_hz: bins above are left out.
        deltas: add their deltas and accelerations, after all the bins.
    """

    VERSION = 1

    def __init__(self, window_ms: int = 25, shape: str = "hann", max_hz: int = 8000, deltas: bool = False) -> None:
        super().__init__()
        if shape not in ("hann", "hamming"):
            raise ValueError(f"Upstream 'spectrogram': shape must be hann or hamming, got {shape!r}.")
        if window_ms < 1 or not 0 < max_hz <= self.sample_rate // 2:
            raise ValueError(
                f"Upstream 'spectrogram': window_ms must be >= 1 and max_hz 1 to 8000, got {window_ms} and {max_hz}."
            )
        self.window = window_ms * self.sample_rate // 1000
        self.num_bins, self.deltas = max_hz * self.window // self.sample_rate + 1, deltas
        self.hidden_size = 3 * self.num_bins if deltas else self.num_bins
        make = torch.hamming_window if shape == "hamming" else torch.hann_window
        self.weights = nn.Buffer(make(self.window), persistent=False)

    def batch_features(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, bins) or (B, T, 3 bins); offset and scale are about mean and deviation over read speech."""
        frames = cut_frames(samples, self.window, self.hop)  # (B, T, window)
        power = power_spectrum(frames * self.weights, self.window)[..., : self.num_bins]  # (B, T, bins)
        levels = (power.clamp(min=FLOOR).log() + 8) / 4
        return with_deltas(levels, self.frame_lengths(lengths), gains=(5, 14)) if self.deltas else levels
