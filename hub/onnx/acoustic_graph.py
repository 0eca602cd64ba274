"""The acoustic front-ends as operations that ONNX has.

Each stands here a second time, because its source is part of the fingerprint of stored states and stays as it is; its
constants are the front-end's own, and `to_onnx` compares every graph with PyTorch before it is written.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from undertone.hub.onnx.spectral_graph import LogMel, Power, pieces
from undertone.upstream.acoustic import jiang2022, mfcc, spectrogram
from undertone.upstream.acoustic._kaldi import FFT, FLOOR, _mel_bank
from undertone.upstream.acoustic.fbank import Fbank
from undertone.upstream.acoustic.logmel import Logmel
from undertone.upstream.types import length_mask

CPU = torch.device("cpu")


class AcousticGraph(nn.Module, ABC):
    """`frame_lengths` and `states` of an acoustic upstream, all utterances of a batch at once, in float64.

    Args:
        upstream: what it stands for.
    """

    def __init__(self, upstream: Any) -> None:
        super().__init__()
        self.upstream = upstream

    @abstractmethod
    def features(self, samples: Tensor, lengths: Tensor, frames: Tensor, longest: Any) -> Tensor:
        """(B, N) float64 samples, their (B,) lengths and frames -> (B, longest, D)."""

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) samples -> (B,) frames."""
        frames: Tensor = self.upstream.frame_lengths(lengths)
        return frames

    def states(self, samples: Tensor, lengths: Tensor, frames: Tensor, padded: bool, longest: Any) -> Tensor:
        """As `HFUpstream.states`: (B, N) samples -> (B, 1, T, D)."""
        lengths = lengths.clamp(min=self.upstream.window)
        features = self.features(samples.double(), lengths, frames, longest)  # (B, T, D)
        return (features * length_mask(frames, features.shape[1])[..., None]).float()[:, None]

    def pieces(self, samples: Tensor, longest: Any) -> Tensor:
        """(B, N) -> (B, longest, window), the samples of each frame."""
        return pieces(samples, longest, self.upstream.window, self.upstream.hop)


class FbankGraph(AcousticGraph):
    """`fbank`."""

    def __init__(self, upstream: Fbank) -> None:
        super().__init__(upstream)
        self.log_mel = kaldi_log_mel(upstream.num_mels)

    def features(self, samples: Tensor, lengths: Tensor, frames: Tensor, longest: Any) -> Tensor:
        """(B, T, 240)."""
        return with_deltas((self.log_mel(self.pieces(samples, longest)) + 7) / 4, frames, gains=(5, 14))


class LogmelGraph(AcousticGraph):
    """`logmel`."""

    def __init__(self, upstream: Logmel) -> None:
        super().__init__(upstream)
        self.log_mel = kaldi_log_mel(upstream.num_mels)

    def features(self, samples: Tensor, lengths: Tensor, frames: Tensor, longest: Any) -> Tensor:
        """(B, T, num_mels)."""
        levels: Tensor = (self.log_mel(self.pieces(samples, longest)) + 7) / 4
        return levels


class MfccGraph(AcousticGraph):
    """`mfcc`."""

    def __init__(self, upstream: mfcc.Mfcc) -> None:
        super().__init__(upstream)
        self.log_mel = kaldi_log_mel(mfcc.MELS)
        self.basis = nn.Buffer(mfcc._liftered_dct(CPU).double() / 16)  # (mels, C)

    def features(self, samples: Tensor, lengths: Tensor, frames: Tensor, longest: Any) -> Tensor:
        """(B, T, 39)."""
        return with_deltas(self.log_mel(self.pieces(samples, longest)) @ self.basis, frames, gains=(5, 12))


class SpectrogramGraph(AcousticGraph):
    """`spectrogram`, whatever its options."""

    def __init__(self, upstream: spectrogram.Spectrogram) -> None:
        super().__init__(upstream)
        self.power = Power(spectrogram._window(upstream.shape, upstream.window, CPU), upstream.window)

    def features(self, samples: Tensor, lengths: Tensor, frames: Tensor, longest: Any) -> Tensor:
        """(B, T, bins)."""
        power = self.power(self.pieces(samples, longest))[..., : self.upstream.hidden_size]
        levels: Tensor = (power.clamp(min=FLOOR).log() + 8) / 4
        return levels


class WaveformGraph(AcousticGraph):
    """`waveform`."""

    def features(self, samples: Tensor, lengths: Tensor, frames: Tensor, longest: Any) -> Tensor:
        """(B, T, hop); the last frame is filled up with zeros."""
        mask = length_mask(lengths, samples.shape[1])
        mean = (samples * mask).sum(1, keepdim=True) / lengths[:, None]  # (B, 1)
        centred = (samples - mean) * mask  # (B, N)
        deviation = (centred.square().sum(1, keepdim=True) / lengths[:, None]).sqrt()
        filled = nn.functional.pad(centred / (deviation + 1e-5), (0, self.upstream.hop))
        return self.pieces(filled, longest)


class Jiang2022Graph(AcousticGraph):
    """`jiang2022`."""

    def __init__(self, upstream: jiang2022.Jiang2022) -> None:
        super().__init__(upstream)
        sizes = (jiang2022.PICTURE, jiang2022.CEPSTRAL_BANDS, jiang2022.BANDS)
        self.log_mels = nn.ModuleList(kaldi_log_mel(size) for size in sizes)
        self.power = Power(torch.hann_window(upstream.window), FFT)
        self.basis = nn.Buffer(jiang2022._dct(CPU).double() / 16)  # (40, 15)
        self.pitch_classes = nn.Buffer(jiang2022._pitch_classes(CPU).double())  # (bins, 12)

    def features(self, samples: Tensor, lengths: Tensor, frames: Tensor, longest: Any) -> Tensor:
        """(B, T, 287)."""
        sounds = self.pieces(samples, longest)
        picture, cepstral, bands = (log_mel(sounds) for log_mel in self.log_mels)
        slow = torch.cat([cepstral @ self.basis, (bands + 7) / 4], 2)  # (B, T, 40)
        parts = [with_deltas((picture + 7) / 4, frames, gains=(5, 14)), slow, 5 * deltas(slow, frames)]
        return torch.cat([*parts, self._of_each_frame(sounds)], 2)

    def _of_each_frame(self, sounds: Tensor) -> Tensor:
        """(B, T, window) -> (B, T, 15): flatness, 12 chroma, zero crossings, root mean square."""
        power = self.power(sounds).clamp(min=FLOOR)  # (B, T, bins)
        flatness = power.log().mean(2, keepdim=True).exp() / power.mean(2, keepdim=True)  # (B, T, 1)
        chroma = power @ self.pitch_classes  # (B, T, 12)
        chroma = chroma / chroma.amax(2, keepdim=True)
        crossings = (sounds[..., 1:].sign() - sounds[..., :-1].sign()).abs().clamp(max=1).mean(2, keepdim=True)
        loudness = 10 * sounds.square().sum(2, keepdim=True).sqrt() / math.sqrt(sounds.shape[2])
        return torch.cat([flatness, chroma, crossings, loudness], 2)


def kaldi_log_mel(num_mels: int) -> LogMel:
    """As `undertone.upstream.acoustic._kaldi.log_mel`, of pieces."""
    return LogMel(_mel_bank(num_mels, CPU))


def with_deltas(features: Tensor, frames: Tensor, gains: tuple[float, float]) -> Tensor:
    """As `undertone.upstream.acoustic._kaldi.with_deltas`: (B, T, D) -> (B, T, 3 D)."""
    first = deltas(features, frames)
    return torch.cat([features, gains[0] * first, gains[1] * deltas(first, frames)], 2)


def deltas(features: Tensor, frames: Tensor) -> Tensor:
    """(B, T, D) -> (B, T, D): sum of n (c_{t+n} - c_{t-n}) / 10 over n = 1, 2; beyond an utterance its edge counts."""

    def shifted(steps: int) -> Tensor:
        places = torch.minimum((torch.arange(features.shape[1]) + steps).clamp(min=0)[None], frames[:, None] - 1)
        return features.gather(1, places[..., None].expand(-1, -1, features.shape[2]))  # (B, T, D)

    return sum(((shifted(n) - shifted(-n)) * (n / 10) for n in (1, 2)), torch.zeros_like(features))
