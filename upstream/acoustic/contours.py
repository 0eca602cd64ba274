"""Many statistics of many contours, and random kernels over them: a large set of our own, with torchaudio alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchaudio.functional import create_dct

from undertone.upstream import spectra
from undertone.upstream.acoustic._base import Acoustic
from undertone.upstream.acoustic._dynamics import NUM_DYNAMICS, dynamics
from undertone.upstream.acoustic._spectral_shape import LEVEL, evened, spectral_shape
from undertone.upstream.acoustic._statistics import (
    NUM_RESPONSES,
    course,
    kernel_responses,
    log_covariance,
    moments,
    percentiles,
    stretches,
)
from undertone.upstream.acoustic._voice import VOICED, voice
from undertone.upstream.spectra import LogMel, cut_frames

MELS, COEFFICIENTS, FEW = 40, 20, 13
RANGE = 3.45  # 30 dB of the log RMS: what lies further below its 95th percentile is no speech


@dataclass(frozen=True)
class _Speech:
    """The contours from the first frame of speech to the last."""

    mels: Tensor  # (T, 40) log-mel energies
    shape: Tensor  # (T, 19), see `spectral_shape`
    voice: Tensor  # (T, 9), see `voice`
    speech: Tensor  # (T,) bool, true where it is loud enough
    voiced: Tensor  # (T,) bool, true where it is periodic too


class Contours(Acoustic):
    """Cepstra, shape of the spectrum and voice -> moments, percentiles, course, covariance, random kernels.

    One "frame" an utterance, as `functionals`, but for heads that standardise many numbers: `lda`, `logistic`,
    `svm`, `dense`.
    Only speech counts: pauses enter as durations. Two kinds of statistics are not among openSMILE's: the logarithm of
    the covariance of the contours and their deltas, and the responses of random convolutions over the contours.

    Args:
        dynamics: add how the contours move and move together, see `dynamics`.
    """

    VERSION = 1
    one_frame = True

    def __init__(self, dynamics: bool = False) -> None:
        super().__init__()
        self.dynamics = dynamics
        self.hidden_size = 2833 + NUM_RESPONSES + (NUM_DYNAMICS if dynamics else 0)
        self.log_mel = LogMel.kaldi(MELS)
        self.basis = nn.Buffer(create_dct(COEFFICIENTS, MELS, "ortho"), persistent=False)  # (mels, 20)

    def features(self, wave: Tensor) -> Tensor:
        """(N,) samples -> (1, D)."""
        return torch.cat(list(self.groups(wave).values()))[None]

    def groups(self, wave: Tensor) -> dict[str, Tensor]:
        """{what: its numbers}, in their order."""
        found = self._speech(wave)
        cepstra = found.mels @ self.basis / 4  # (T, 20)
        timbre = torch.cat([cepstra, found.shape], 1)  # (T, 39)
        deltas, few = _deltas(timbre), cepstra[:, :FEW]
        together = torch.cat([few, 3 * _deltas(few), 9 * _deltas(_deltas(few))], 1)  # (T, 39)
        voiced = found.voice[found.voiced] if found.voiced.any() else torch.zeros_like(found.voice[:1])  # (V, 9)
        loud = timbre[found.speech]  # (S, 39)
        shaped = torch.cat([found.shape, 3 * deltas[:, COEFFICIENTS:]], 1)  # (T, 38)
        even = torch.cat([cepstra, evened(found.shape)], 1)  # (T, 39)
        groups = {
            "moments": moments(loud),
            "percentiles": percentiles(loud),
            "course": course(timbre),
            "delta moments": moments(deltas),
            "delta percentiles": percentiles(deltas),
            "voice moments": moments(voiced),
            "voice percentiles": percentiles(voiced),
            "voice course": course(voiced),
            "covariance": log_covariance(together[found.speech]),
            "covariance of shape": log_covariance(shaped[found.speech]),
            "time": _time(found),
            "kernels": kernel_responses(even - even[found.speech].mean(0), found.speech),
        }
        if self.dynamics:
            groups |= dynamics(found.mels, cepstra, found.shape, found.voice, found.speech, found.voiced)
        return groups

    def _speech(self, wave: Tensor) -> _Speech:
        """(N,) samples -> contours without the silence around the speech."""
        mels = self.log_mel(cut_frames(wave[None], self.window, self.hop))[0]  # (T, 40)
        shape = spectral_shape(wave)  # (T, 19)
        quality, periodic = voice(wave)  # (T, 9), (T,)
        level = shape[:, LEVEL]
        speech = level > torch.quantile(level, 0.95) - RANGE  # (T,), never empty
        places = speech.nonzero()[:, 0]
        span = slice(int(places[0]), int(places[-1]) + 1)
        voiced = speech & (periodic > VOICED)  # (T,)
        return _Speech(mels[span], shape[span], quality[span], speech[span], voiced[span])


def _time(found: _Speech) -> Tensor:
    """(19,): log seconds, fractions of voiced frames and speech, voiced, unvoiced, silent and spoken stretches."""
    seconds = found.mels.new_tensor(len(found.mels) / 100)
    fractions = torch.stack([seconds.log(), found.voiced.float().mean(), found.speech.float().mean()])
    kinds = (found.voiced, found.speech & ~found.voiced, ~found.speech, found.speech)
    return torch.cat([fractions, *map(stretches, kinds)])


def _deltas(contours: Tensor) -> Tensor:
    """(T, D) -> (T, D), the change a frame over 5 frames."""
    return spectra.deltas(contours[None], torch.tensor([len(contours)], device=contours.device))[0]
