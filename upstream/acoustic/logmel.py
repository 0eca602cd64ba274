"""Log-mel energies alone, the picture that a convolutional network is given."""

from __future__ import annotations

from torch import Tensor

from undertone.upstream.acoustic._base import Acoustic
from undertone.upstream.acoustic._kaldi import log_mel


class Logmel(Acoustic):
    """Kaldi's log-mel energies, 25 ms every 10 ms, 20 Hz to 8 kHz: 64 bands, without deltas.

    Args:
        num_mels: number of bands.
    """

    def __init__(self, num_mels: int = 64) -> None:
        super().__init__()
        self.num_mels = self.hidden_size = num_mels

    def features(self, wave: Tensor) -> Tensor:
        """(N,) samples -> (T, num_mels); offset and scale are about mean and deviation over read speech."""
        return (log_mel(wave, self.num_mels) + 7) / 4
