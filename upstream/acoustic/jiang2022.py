"""What CRNN-MA hears (Jiang et al., IEEE TCDS 2022): a log-mel picture, and 95 features of every frame."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torchaudio.functional import compute_deltas, create_dct

from undertone.upstream.acoustic._base import Acoustic
from undertone.upstream.acoustic._kaldi import FFT, FLOOR, HOP, WINDOW, log_mel, with_deltas

PICTURE, BANDS, COEFFICIENTS, CEPSTRAL_BANDS = 64, 25, 15, 40
LOWEST_HZ, REFERENCE_HZ = 60.0, 440.0


@cache
def _dct(device: torch.device) -> Tensor:
    basis: Tensor = create_dct(COEFFICIENTS, CEPSTRAL_BANDS, "ortho")  # (CEPSTRAL_BANDS, COEFFICIENTS)
    return basis.to(device)


@cache
def _pitch_classes(device: torch.device) -> Tensor:
    """(FFT / 2 + 1, 12): 1 where a bin's frequency is nearest to a note of the class; 0 throughout below 60 Hz."""
    hz = torch.arange(FFT // 2 + 1) * 16_000 / FFT
    note = (12 * torch.log2(hz.clamp(min=LOWEST_HZ) / REFERENCE_HZ)).round().long() % 12  # (bins,)
    return (torch.nn.functional.one_hot(note, 12) * (hz >= LOWEST_HZ)[:, None]).float().to(device)


class Jiang2022(Acoustic):
    """64 log-mel energies with deltas and accelerations (192), then 95 features, 25 ms every 10 ms.

    The 95: 15 MFCC and 25 log-mel energies with deltas, spectral flatness, 12 chroma, zero crossings, root mean square.
    How each is computed is ours; fixed constants bring them to O(1).
    """

    hidden_size = 3 * PICTURE + 2 * (COEFFICIENTS + BANDS) + 1 + 12 + 2

    def features(self, wave: Tensor) -> Tensor:
        """(N,) samples -> (T, 287)."""
        picture = with_deltas((log_mel(wave, PICTURE) + 7) / 4, gains=(5, 14))  # (T, 192)
        cepstra = log_mel(wave, CEPSTRAL_BANDS) @ _dct(wave.device) / 16  # (T, 15)
        slow = torch.cat([cepstra, (log_mel(wave, BANDS) + 7) / 4], 1)  # (T, 40)
        return torch.cat([picture, slow, 5 * compute_deltas(slow.T).T, _of_each_frame(wave)], 1)  # (T, 287)


def _of_each_frame(wave: Tensor) -> Tensor:
    """(N,) -> (T, 15): flatness, 12 chroma, share of zero crossings, ten times the root mean square."""
    frames = wave.unfold(0, WINDOW, HOP)  # (T, window)
    window = torch.hann_window(WINDOW, device=wave.device)
    power = torch.fft.rfft(frames * window, n=FFT).abs().square().clamp(min=FLOOR)  # (T, bins)
    flatness = power.log().mean(1, keepdim=True).exp() / power.mean(1, keepdim=True)  # (T, 1)
    chroma = power @ _pitch_classes(wave.device)  # (T, 12)
    chroma = chroma / chroma.amax(1, keepdim=True)
    crossings = (frames[:, 1:].sign() != frames[:, :-1].sign()).float().mean(1, keepdim=True)  # (T, 1)
    loudness = 10 * frames.norm(dim=1, keepdim=True) / math.sqrt(WINDOW)  # (T, 1)
    return torch.cat([flatness, chroma, crossings, loudness], 1)
