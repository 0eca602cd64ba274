"""The samples themselves, for a head that learns its own front-end (Trigeorgis et al., ICASSP 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from undertone.upstream.acoustic._base import Acoustic


class Waveform(Acoustic):
    """The waveform, zero mean and unit variance over the utterance, cut into frames of 40 ms: 640 samples each.

    The last frame is filled up with zeros. Nothing is transformed: laid end to end, the frames are the sound.

    Args:
        frame_ms: length of a frame; frames do not overlap.
    """

    def __init__(self, frame_ms: int = 40) -> None:
        super().__init__()
        if frame_ms < 1:
            raise ValueError(f"Upstream 'waveform': frame_ms must be >= 1, got {frame_ms}.")
        self.window = self.hop = self.hidden_size = frame_ms * self.sample_rate // 1000

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) int64 samples -> (B,) int64 frames."""
        return (lengths.clamp(min=1) - 1) // self.hop + 1

    def features(self, wave: Tensor) -> Tensor:
        """(N,) samples -> (T, hop)."""
        normed = (wave - wave.mean()) / (wave.std(correction=0) + 1e-5)
        return torch.nn.functional.pad(normed, (0, -len(wave) % self.hop)).reshape(-1, self.hop)  # (T, hop)
