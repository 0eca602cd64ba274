"""13 cepstral coefficients with deltas (Davis and Mermelstein, IEEE TASSP 1980; Kaldi's settings)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torchaudio.functional import create_dct

from undertone.upstream.acoustic._base import BatchedAcoustic
from undertone.upstream.spectra import LogMel, cut_frames, with_deltas

MELS, COEFFICIENTS, LIFTER = 23, 13, 22


class Mfcc(BatchedAcoustic):
    """Kaldi's 13 MFCCs of 23 mel bands, 25 ms every 10 ms, with deltas and accelerations: 39 features.

    As s3prl's `mfcc` upstream, but for its normalisation over the utterance; fixed constants bring the values to O(1).
    """

    VERSION = 1
    hidden_size = 39

    def __init__(self) -> None:
        super().__init__()
        lifter = 1 + LIFTER / 2 * torch.sin(math.pi * torch.arange(COEFFICIENTS) / LIFTER)  # (C,)
        self.log_mel = LogMel.kaldi(MELS)
        self.basis = nn.Buffer(create_dct(COEFFICIENTS, MELS, "ortho") * lifter, persistent=False)  # (mels, C)

    def batch_features(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, 39); the scales are about the standard deviation over read speech."""
        cepstra = self.log_mel(cut_frames(samples, self.window, self.hop)) @ self.basis / 16  # (B, T, C)
        return with_deltas(cepstra, self.frame_lengths(lengths), gains=(5, 12))
