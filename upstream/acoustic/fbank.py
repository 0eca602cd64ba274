"""80 log-mel energies with deltas: the FBANK baseline of SUPERB (Yang et al., Interspeech 2021)."""

from __future__ import annotations

from torch import Tensor

from undertone.upstream.acoustic._base import Acoustic
from undertone.upstream.acoustic._kaldi import log_mel, with_deltas


class Fbank(Acoustic):
    """Kaldi's 80 log-mel energies, 25 ms every 10 ms, with deltas and accelerations: 240 features.

    As s3prl's `fbank` upstream, but for its normalisation over the utterance: the level and the range of a voice carry
    emotion, so here fixed constants bring the values to O(1), whatever the utterance.
    """

    hidden_size = 240
    num_mels = 80

    def features(self, wave: Tensor) -> Tensor:
        """(N,) samples -> (T, 240); offset and scales are about mean and deviation over read speech."""
        return with_deltas((log_mel(wave, self.num_mels) + 7) / 4, gains=(5, 14))
