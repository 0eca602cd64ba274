"""Log-mel energies alone, the picture that a convolutional network is given."""

from __future__ import annotations

from torch import Tensor

from undertone.upstream.acoustic._base import BatchedAcoustic
from undertone.upstream.spectra import LogMel, cut_frames


class Logmel(BatchedAcoustic):
    """Kaldi's log-mel energies, 25 ms every 10 ms, 20 Hz to 8 kHz: 64 bands, without deltas.

    Args:
        num_mels: number of bands.
    """

    VERSION = 1

    def __init__(self, num_mels: int = 64) -> None:
        super().__init__()
        self.hidden_size = num_mels
        self.log_mel = LogMel.kaldi(num_mels)

    def batch_features(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, num_mels); offset and scale are about the mean and the standard deviation over read speech."""
        return (self.log_mel(cut_frames(samples, self.window, self.hop)) + 7) / 4
