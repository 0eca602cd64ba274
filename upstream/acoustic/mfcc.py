"""13 cepstral coefficients with deltas (Davis and Mermelstein, IEEE TASSP 1980; Kaldi's settings)."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torchaudio.functional import create_dct

from undertone.upstream.acoustic._base import Acoustic
from undertone.upstream.acoustic._kaldi import log_mel, with_deltas

MELS, COEFFICIENTS, LIFTER = 23, 13, 22


@cache
def _liftered_dct(device: torch.device) -> Tensor:
    order = torch.arange(COEFFICIENTS)
    lifter = 1 + LIFTER / 2 * torch.sin(math.pi * order / LIFTER)  # (C,)
    basis: Tensor = create_dct(COEFFICIENTS, MELS, "ortho") * lifter  # (mels, C)
    return basis.to(device)


class Mfcc(Acoustic):
    """Kaldi's 13 MFCCs of 23 mel bands, 25 ms every 10 ms, with deltas and accelerations: 39 features.

    As s3prl's `mfcc` upstream, but for its normalisation over the utterance; fixed constants bring the values to O(1).
    """

    hidden_size = 39

    def features(self, wave: Tensor) -> Tensor:
        """(N,) samples -> (T, 39); the scales are about the deviation over read speech."""
        return with_deltas(log_mel(wave, MELS) @ _liftered_dct(wave.device) / 16, gains=(5, 12))
