"""The samples themselves, for a head that learns its own filters (Trigeorgis et al., ICASSP 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from undertone.upstream.acoustic._base import BatchedAcoustic
from undertone.upstream.spectra import cut_frames
from undertone.upstream.types import length_mask


class Waveform(BatchedAcoustic):
    """The waveform, zero mean and unit variance over the utterance, cut into frames of 40 ms: 640 samples each.

    The last frame is filled up with zeros. Nothing is transformed: joined end to end, the frames are the clip.

    Args:
        frame_ms: length of a frame; frames do not overlap.
    """

    VERSION = 1

    def __init__(self, frame_ms: int = 40) -> None:
        super().__init__()
        if frame_ms < 1:
            raise ValueError(f"Upstream 'waveform': frame_ms must be >= 1, got {frame_ms}.")
        self.window = self.hop = self.hidden_size = frame_ms * self.sample_rate // 1000

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) int64 samples -> (B,) int64 frames."""
        return (lengths.clamp(min=1) - 1) // self.hop + 1

    def batch_features(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, hop)."""
        mask = length_mask(lengths, samples.shape[1])  # (B, N)
        mean = (samples * mask).sum(1, keepdim=True) / lengths[:, None]  # (B, 1)
        centred = (samples - mean) * mask  # (B, N)
        deviation = (centred.square().sum(1, keepdim=True) / lengths[:, None]).sqrt()  # (B, 1)
        return cut_frames(torch.nn.functional.pad(centred / (deviation + 1e-5), (0, self.hop)), self.hop, self.hop)
