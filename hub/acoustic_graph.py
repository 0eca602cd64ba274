"""The acoustic front-ends as operations that ONNX has: frames by index, the Fourier transform as a matrix product.

The numbers of each front-end stand here a second time, because its source is part of the fingerprint of stored states
and stays as it is; `to_onnx` compares every graph with PyTorch before it is written.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.compliance import kaldi

from undertone.upstream.acoustic import mfcc
from undertone.upstream.acoustic._kaldi import FFT, FLOOR, PREEMPHASIS
from undertone.upstream.acoustic.fbank import Fbank
from undertone.upstream.acoustic.spectrogram import Spectrogram
from undertone.upstream.base import Upstream
from undertone.upstream.types import length_mask


class AcousticGraph(nn.Module):
    """`frame_lengths` and `states` of an acoustic upstream, all utterances of a batch at once.

    Inside it is float64, so that the long sums of a matrix product lose nothing against a fast Fourier transform.

    Args:
        upstream: of a kind that `has_graph` knows.
    """

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self.upstream: Any = upstream
        size = upstream.window if isinstance(upstream, Spectrogram) else FFT
        periodic = torch.hann_window(400, dtype=torch.float64)
        povey = torch.hann_window(400, periodic=False, dtype=torch.float64).pow(0.85)
        angles = 2 * torch.pi * torch.outer(torch.arange(400), torch.arange(size // 2 + 1)).double() / size
        window = (periodic if isinstance(upstream, Spectrogram) else povey)[:, None]
        self.transform = nn.Buffer(torch.cat([angles.cos() * window, angles.sin() * window], 1))  # (400, 2 F)

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) samples -> (B,) frames."""
        frames: Tensor = self.upstream.frame_lengths(lengths)
        return frames

    def states(self, samples: Tensor, lengths: Tensor, frames: Tensor, padded: bool, longest: Any) -> Tensor:
        """As `HFUpstream.states`: (B, N) samples -> (B, 1, T, D)."""
        starts = torch.arange(longest)[:, None] * self.upstream.hop + torch.arange(self.upstream.window)  # (T, 400)
        features = self._features(samples.double()[:, starts], frames)  # (B, T, D)
        return (features * length_mask(frames, features.shape[1])[..., None]).float()[:, None]

    def _features(self, pieces: Tensor, frames: Tensor) -> Tensor:
        if isinstance(self.upstream, Spectrogram):
            return (self._power(pieces).clamp(min=FLOOR).log() + 8) / 4
        if isinstance(self.upstream, Fbank):
            return _with_deltas((self._log_mel(pieces, Fbank.num_mels) + 7) / 4, frames, gains=(5, 14))
        cepstra = self._log_mel(pieces, mfcc.MELS) @ mfcc._liftered_dct(torch.device("cpu")).double() / 16
        return _with_deltas(cepstra, frames, gains=(5, 12))

    def _power(self, pieces: Tensor) -> Tensor:
        """(B, T, 400) -> (B, T, F)."""
        real, imaginary = (pieces @ self.transform).chunk(2, dim=-1)
        return real.square() + imaginary.square()

    def _log_mel(self, pieces: Tensor, num_mels: int) -> Tensor:
        """(B, T, 400) -> (B, T, num_mels)."""
        pieces = pieces - pieces.mean(2, keepdim=True)
        previous = torch.cat([pieces[..., :1], pieces[..., :-1]], 2)
        bank, _ = kaldi.get_mel_banks(num_mels, FFT, 16_000.0, 20.0, 8_000.0, 100.0, -500.0, 1.0)  # (mels, FFT / 2)
        bank = nn.functional.pad(bank, (0, 1)).T.double()  # (FFT / 2 + 1, mels)
        return (self._power(pieces - PREEMPHASIS * previous) @ bank).clamp(min=FLOOR).log()


def has_graph(upstream: Upstream) -> bool:
    """Whether `AcousticGraph` knows it."""
    return type(upstream) in (Fbank, mfcc.Mfcc, Spectrogram)


def _with_deltas(features: Tensor, frames: Tensor, gains: tuple[float, float]) -> Tensor:
    deltas = _deltas(features, frames)
    return torch.cat([features, gains[0] * deltas, gains[1] * _deltas(deltas, frames)], 2)  # (B, T, 3 D)


def _deltas(features: Tensor, frames: Tensor) -> Tensor:
    """(B, T, D) -> (B, T, D): sum of n (c_{t+n} - c_{t-n}) / 10 over n = 1, 2; beyond an utterance its edge counts."""

    def shifted(steps: int) -> Tensor:
        places = torch.minimum((torch.arange(features.shape[1]) + steps).clamp(min=0)[None], frames[:, None] - 1)
        return features.gather(1, places[..., None].expand(-1, -1, features.shape[2]))  # (B, T, D)

    return sum(((shifted(n) - shifted(-n)) * (n / 10) for n in (1, 2)), torch.zeros_like(features))
