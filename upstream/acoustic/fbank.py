"""80 log-mel energies with deltas: the FBANK baseline of SUPERB (Yang et al., Interspeech 2021)."""

from __future__ import annotations

from torch import Tensor

from undertone.upstream.acoustic._base import BatchedAcoustic
from undertone.upstream.spectra import LogMel, cut_frames, with_deltas


class Fbank(BatchedAcoustic):
    """Kaldi's 80 log-mel energies, 25 ms every 10 ms, with deltas and accelerations: 240 features.

    As s3prl's `fbank` upstream, but for its normalisation over the utterance: the level and the range of a voice carry
    emotion, so here fixed constants bring the values to O(1), whatever the utterance.
    """

    VERSION = 1
    hidden_size = 240

    def __init__(self) -> None:
        super().__init__()
        self.log_mel = LogMel.kaldi(80)

    def batch_features(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, 240); offset and scales are about the mean and the standard deviation over read speech."""
        levels = (self.log_mel(cut_frames(samples, self.window, self.hop)) + 7) / 4  # (B, T, 80)
        return with_deltas(levels, self.frame_lengths(lengths), gains=(5, 14))
