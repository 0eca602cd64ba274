"""The input of CRNN-MA (Jiang et al., IEEE TCDS 2022): a log-mel picture, and 95 features of every frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.functional import create_dct

from undertone.upstream.acoustic._base import BatchedAcoustic
from undertone.upstream.spectra import FFT, FLOOR, LogMel, cut_frames, deltas, power_spectrum, with_deltas

PICTURE, BANDS, COEFFICIENTS, CEPSTRAL_BANDS = 64, 25, 15, 40
LOWEST_HZ, REFERENCE_HZ = 60.0, 440.0


class Jiang2022(BatchedAcoustic):
    """64 log-mel energies with deltas and accelerations (192), then 95 features, 25 ms every 10 ms.

    The 95: 15 MFCC and 25 log-mel energies with deltas, spectral flatness, 12 chroma, zero crossings, root mean square.
    How each is computed is ours; fixed constants bring them to O(1).
    """

    VERSION = 1
    hidden_size = 3 * PICTURE + 2 * (COEFFICIENTS + BANDS) + 1 + 12 + 2

    def __init__(self) -> None:
        super().__init__()
        self.log_mels = nn.ModuleList(LogMel.kaldi(size) for size in (PICTURE, CEPSTRAL_BANDS, BANDS))
        self.basis = nn.Buffer(create_dct(COEFFICIENTS, CEPSTRAL_BANDS, "ortho"), persistent=False)  # (40, 15)
        self.weights = nn.Buffer(torch.hann_window(self.window), persistent=False)
        self.pitch_classes = nn.Buffer(pitch_classes(), persistent=False)  # (bins, 12)

    def batch_features(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, 287)."""
        frames, counts = cut_frames(samples, self.window, self.hop), self.frame_lengths(lengths)
        picture, cepstral, bands = (log_mel(frames) for log_mel in self.log_mels)  # (B, T, M) each
        picture = with_deltas((picture + 7) / 4, counts, gains=(5, 14))  # (B, T, 192)
        slow = torch.cat([cepstral @ self.basis / 16, (bands + 7) / 4], 2)  # (B, T, 40)
        return torch.cat([picture, slow, 5 * deltas(slow, counts), *self._of_each_frame(frames)], 2)  # (B, T, 287)

    def _of_each_frame(self, frames: Tensor) -> list[Tensor]:
        """(B, T, window) -> (B, T, 1 or 12) each: flatness, chroma, zero crossings, 10 times the root mean square."""
        power = power_spectrum(frames * self.weights, FFT).clamp(min=FLOOR)  # (B, T, bins)
        flatness = power.log().mean(2, keepdim=True).exp() / power.mean(2, keepdim=True)
        chroma = power @ self.pitch_classes  # (B, T, 12)
        crossings = (frames[..., 1:].sign() != frames[..., :-1].sign()).to(frames.dtype).mean(2, keepdim=True)
        loudness = 10 * frames.square().mean(2, keepdim=True).sqrt()
        return [flatness, chroma / chroma.amax(2, keepdim=True), crossings, loudness]


def pitch_classes() -> Tensor:
    """(FFT / 2 + 1, 12): 1 where a bin's frequency is nearest to a note of the class; 0 throughout below 60 Hz."""
    hz = torch.arange(FFT // 2 + 1) * 16_000 / FFT
    note = (12 * torch.log2(hz.clamp(min=LOWEST_HZ) / REFERENCE_HZ)).round().long() % 12  # (bins,)
    return (torch.nn.functional.one_hot(note, 12) * (hz >= LOWEST_HZ)[:, None]).float()
