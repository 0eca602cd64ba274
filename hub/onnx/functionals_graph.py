"""The upstream `functionals` as operations that ONNX has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from undertone.hub.onnx.acoustic_graph import CPU, AcousticGraph, deltas, kaldi_log_mel
from undertone.hub.onnx.spectral_graph import Power, pieces
from undertone.upstream.acoustic import functionals
from undertone.upstream.acoustic._base import Acoustic
from undertone.upstream.acoustic._kaldi import FLOOR
from undertone.upstream.acoustic._pitch import LONGEST, LOWEST_HZ, SHORTEST
from undertone.upstream.acoustic._pitch import WINDOW as PITCH_WINDOW
from undertone.upstream.acoustic.functionals import VOICED
from undertone.upstream.types import length_mask


class FunctionalsGraph(AcousticGraph):
    """`functionals`. In float64, so that a frame whose two best pitches tie may take the other one than PyTorch."""

    def __init__(self, upstream: functionals.Functionals) -> None:
        super().__init__(upstream)
        self.log_mel = kaldi_log_mel(functionals.MELS)
        self.basis = nn.Buffer(functionals._dct(CPU).double() / 16)  # (mels, 40)
        self.power = Power(torch.hann_window(PITCH_WINDOW, dtype=torch.float64), 2 * PITCH_WINDOW)
        bins = torch.arange(PITCH_WINDOW + 1)
        turns = torch.outer(bins, torch.arange(LONGEST + 1)) % (2 * PITCH_WINDOW)
        twice = torch.where((bins == 0) | (bins == PITCH_WINDOW), 1.0, 2.0).double()[:, None]
        inverse = twice * (torch.pi * turns.double() / PITCH_WINDOW).cos() / (2 * PITCH_WINDOW)
        self.inverse = nn.Buffer(inverse)  # (F, lags), from a power spectrum to the autocorrelation
        self.of_window = nn.Buffer(self.power(torch.ones(1, 1, PITCH_WINDOW).double()) @ self.inverse)

    def features(self, samples: Tensor, lengths: Tensor, frames: Tensor, longest: Any) -> Tensor:
        """(B, 1, 415)."""
        contours, real = self._contours(samples, lengths)  # (B, T, 82), (B, T)
        octaves, voiced = self._pitch(samples, lengths)  # (B, T', 1), (B, T')
        return torch.cat([statistics(contours, real), statistics(octaves, voiced)], 2).reshape(samples.shape[0], 1, -1)

    def _contours(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames, longest = _frames(lengths, Acoustic.window), _frames(_size(samples), Acoustic.window)
        sounds = pieces(samples, longest, Acoustic.window, Acoustic.hop)  # (B, T, 400)
        cepstra = self.log_mel(sounds) @ self.basis  # (B, T, 40)
        level = sounds.square().mean(2, keepdim=True).clamp(min=FLOOR).log() / 2  # (B, T, 1)
        positive = (sounds >= 0).double()
        crossings = (positive[..., 1:] - positive[..., :-1]).abs().mean(2, keepdim=True)  # (B, T, 1)
        parts = [cepstra, 5 * deltas(cepstra, frames), (level + 4) / 2, 10 * crossings]
        return torch.cat(parts, 2), length_mask(frames, sounds.shape[1])

    def _pitch(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `functionals.log_pitch`, and which frames count: the voiced ones, or all at 60 Hz where none is."""
        frames, longest = _frames(lengths, PITCH_WINDOW), _frames(_size(samples), PITCH_WINDOW)
        sounds = pieces(samples, longest, PITCH_WINDOW, Acoustic.hop)  # (B, T', window)
        found = self.power(sounds - sounds.mean(2, keepdim=True)) @ self.inverse / self.of_window  # (B, T', lags)
        found = found / found[..., :1].clamp(min=FLOOR)
        candidates = found[..., SHORTEST:]
        best = candidates.amax(2, keepdim=True)  # (B, T', 1)
        first = (candidates >= 0.9 * best).int().argmax(2, keepdim=True)  # (B, T', 1)
        climbing = torch.arange(candidates.shape[2]) <= first + SHORTEST // 2
        lag = torch.where(climbing, candidates, -1.0).argmax(2, keepdim=True) + SHORTEST  # (B, T', 1)
        octaves = torch.log2(Acoustic.sample_rate / lag.double() / LOWEST_HZ)
        real = length_mask(frames, sounds.shape[1])  # (B, T')
        voiced = real & (best[..., 0] >= VOICED)
        ever = voiced.any(1, keepdim=True)  # (B, 1)
        return octaves * ever[..., None], voiced | (real & ~ever)


def statistics(contours: Tensor, mask: Tensor) -> Tensor:
    """As `functionals.statistics`, over the frames of `mask` (B, T): (B, T, D) -> (B, 5, D)."""
    counted = mask[..., None].double()  # (B, T, 1)
    count = counted.sum(1, keepdim=True)  # (B, 1, 1)
    mean = (contours * counted).sum(1, keepdim=True) / count  # (B, 1, D)
    centred = (contours - mean) * counted
    deviation = (centred.square().sum(1, keepdim=True) / count).sqrt()
    seconds = torch.arange(contours.shape[1])[None, :, None].double() * Acoustic.hop / Acoustic.sample_rate  # (1, T, 1)
    time = (seconds - (seconds * counted).sum(1, keepdim=True) / count) * counted  # (B, T, 1)
    slope = (time * centred).sum(1, keepdim=True) / time.square().sum(1, keepdim=True).clamp(min=FLOOR)
    lowest = torch.where(mask[..., None], contours, torch.inf).amin(1, keepdim=True)
    highest = torch.where(mask[..., None], contours, -torch.inf).amax(1, keepdim=True)
    return torch.cat([mean, deviation, lowest, highest, slope], 1)


def _frames(lengths: Tensor, window: int) -> Tensor:
    return (lengths - window) // Acoustic.hop + 1


def _size(samples: Tensor) -> Tensor:
    """N as a number that the tracer follows."""
    return torch.scalar_tensor(samples.shape[1], dtype=torch.int64)
