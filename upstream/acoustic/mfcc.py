"""13 cepstral coefficients with deltas (Davis and Mermelstein, IEEE TASSP 1980; Kaldi's settings)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torchaudio.functional import create_dct

from undertone.upstream.acoustic._base import BatchedAcoustic
from undertone.upstream.spectra import LogMel, cut_frames, with_deltas

LIFTER = 22


class Mfcc(BatchedAcoustic):
    """Kaldi's 13 MFCCs of 23 mel bands, 25 ms every 10 ms, with deltas and accelerations: 39 features.

    As s3prl's `mfcc` upstream, but for its normalisation over the utterance; fixed constants bring the values to O(1).

    Args:
        num_mels: bands.
        coefficients: how many, the first included; at most as many as bands.
        deltas: with deltas and accelerations, three times as many features.
    """

    VERSION = 1

    def __init__(self, num_mels: int = 23, coefficients: int = 13, deltas: bool = True) -> None:
        super().__init__()
        if not 1 <= coefficients <= num_mels:
            raise ValueError(
                f"Upstream 'mfcc': coefficients must be 1 to num_mels, which is {num_mels}, got {coefficients}."
            )
        lifter = 1 + LIFTER / 2 * torch.sin(math.pi * torch.arange(coefficients) / LIFTER)  # (C,)
        self.deltas, self.hidden_size = deltas, coefficients * (3 if deltas else 1)
        self.log_mel = LogMel.kaldi(num_mels)
        self.basis = nn.Buffer(create_dct(coefficients, num_mels, "ortho") * lifter, persistent=False)  # (mels, C)

    def batch_features(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, hidden_size); the scales are about the standard deviation over read speech."""
        cepstra = self.log_mel(cut_frames(samples, self.window, self.hop)) @ self.basis / 16  # (B, T, C)
        if not self.deltas:
            return cepstra
        return with_deltas(cepstra, self.frame_lengths(lengths), gains=(5, 12))
