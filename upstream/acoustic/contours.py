"""Many statistics of many contours, and random kernels over them: a large set of our own, with torchaudio alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torchaudio.functional import compute_deltas, create_dct

from undertone.upstream.acoustic._base import Acoustic
from undertone.upstream.acoustic._kaldi import log_mel
from undertone.upstream.acoustic._kernels import NUM_ANSWERS, kernel_answers
from undertone.upstream.acoustic._spectral_shape import DEVIATIONS, LEVEL, spectral_shape
from undertone.upstream.acoustic._statistics import course, log_covariance, moments, percentiles, stretches
from undertone.upstream.acoustic._voice import voice

MELS, COEFFICIENTS, FEW = 40, 20, 13
RANGE = 3.45  # 30 dB of the log RMS: what lies further below its 95th percentile is no speech
VOICED = 0.6  # periodic share of a frame's power from which on it counts as voiced
EVEN = 0.85  # deviation at which the contours of the spectrum's shape enter the kernels: that of cepstra on average


@dataclass(frozen=True)
class _Speech:
    """The contours from the first frame of speech to the last.

    Attributes:
        mels: (T, 40) log-mel energies.
        shape: (T, 19), see `spectral_shape`.
        sound: (T, 9), see `voice`.
        speech: (T,) bool, true where it is loud enough.
        voiced: (T,) bool, true where it is periodic too.
    """

    mels: Tensor
    shape: Tensor
    sound: Tensor
    speech: Tensor
    voiced: Tensor


class Contours(Acoustic):
    """Cepstra, shape of the spectrum and voice -> moments, percentiles, course, covariance, answers of random kernels.

    One "frame" an utterance, as `functionals`, but for heads that standardise many numbers: `logistic`, `svm`, `dense`.
    Only speech counts: pauses enter as durations. Besides openSMILE's kinds of statistics there are two that it has
    not: the logarithm of the covariance of the contours and their deltas, and what random convolutions over the
    contours answer.
    """

    hidden_size = 2833 + NUM_ANSWERS

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) int64 samples -> (B,) ones."""
        return torch.ones_like(lengths)

    def features(self, wave: Tensor) -> Tensor:
        """(N,) samples -> (1, D)."""
        return torch.cat(list(self.groups(wave).values()))[None]

    def groups(self, wave: Tensor) -> dict[str, Tensor]:
        """{what: its numbers}, in their order."""
        found = _speech(wave)
        cepstra = found.mels @ _dct(wave.device) / 4  # (T, 20)
        timbre = torch.cat([cepstra, found.shape], 1)  # (T, 39)
        deltas, few = _deltas(timbre), cepstra[:, :FEW]
        together = torch.cat([few, 3 * _deltas(few), 9 * _deltas(_deltas(few))], 1)  # (T, 39)
        heard = found.sound[found.voiced] if found.voiced.any() else torch.zeros_like(found.sound[:1])  # (V, 9)
        loud = timbre[found.speech]  # (S, 39)
        shaped = torch.cat([found.shape, 3 * deltas[:, COEFFICIENTS:]], 1)  # (T, 38)
        even = torch.cat([cepstra, found.shape * (EVEN / DEVIATIONS.to(wave.device))], 1)  # (T, 39)
        return {
            "moments": moments(loud),
            "percentiles": percentiles(loud),
            "course": course(timbre),
            "delta moments": moments(deltas),
            "delta percentiles": percentiles(deltas),
            "voice moments": moments(heard),
            "voice percentiles": percentiles(heard),
            "voice course": course(heard),
            "covariance": log_covariance(together[found.speech]),
            "covariance of shape": log_covariance(shaped[found.speech]),
            "time": _time(found),
            "kernels": kernel_answers(even - even[found.speech].mean(0), found.speech),
        }


def _speech(wave: Tensor) -> _Speech:
    """(N,) samples -> contours without the silence around the speech."""
    mels, shape = log_mel(wave, MELS), spectral_shape(wave)  # (T, 40), (T, 19)
    sound, periodic = voice(wave)  # (T, 9), (T,)
    level = shape[:, LEVEL]
    speech = level > torch.quantile(level, 0.95) - RANGE  # (T,), never empty
    places = speech.nonzero()[:, 0]
    span = slice(int(places[0]), int(places[-1]) + 1)
    voiced = speech & (periodic > VOICED)  # (T,)
    return _Speech(mels[span], shape[span], sound[span], speech[span], voiced[span])


def _time(found: _Speech) -> Tensor:
    """(19,): log seconds, share of voiced frames and of speech, stretches that are voiced, unvoiced, silent, spoken."""
    seconds = found.mels.new_tensor(len(found.mels) / 100)
    shares = torch.stack([seconds.log(), found.voiced.float().mean(), found.speech.float().mean()])
    kinds = (found.voiced, found.speech & ~found.voiced, ~found.speech, found.speech)
    return torch.cat([shares, *map(stretches, kinds)])


def _deltas(contours: Tensor) -> Tensor:
    """(T, D) -> (T, D), the change a frame over 5 frames."""
    deltas: Tensor = compute_deltas(contours.T).T
    return deltas


@cache
def _dct(device: torch.device) -> Tensor:
    basis: Tensor = create_dct(COEFFICIENTS, MELS, "ortho")  # (mels, 20)
    return basis.to(device)
