"""Statistics of an utterance's cepstra, pitch, loudness and zero crossings, with torchaudio alone."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torchaudio.functional import compute_deltas, create_dct

from undertone.upstream.acoustic._base import Acoustic
from undertone.upstream.acoustic._kaldi import FLOOR, log_mel
from undertone.upstream.acoustic._pitch import LONGEST, LOWEST_HZ, SHORTEST, find_period
from undertone.upstream.acoustic._pitch import WINDOW as PITCH_WINDOW

MELS, COEFFICIENTS = 64, 40
VOICED = 0.5  # autocorrelation at the best lag from which on a frame counts as voiced


class Functionals(Acoustic):
    """40 MFCCs with deltas, log F0, level and zero crossings -> mean, deviation, minimum, maximum, slope: 415 numbers.

    One "frame" an utterance, for heads that need no order in time: `svm`, `logistic`, `dense`. What is measured is that
    of systems with hand-crafted features before openSMILE's sets were common; the sizes are ours. F0 counts where the
    voice is voiced; where it never is, its five numbers are those of 60 Hz throughout. The slope is a second's change.
    """

    hidden_size = 5 * (2 * COEFFICIENTS + 3)
    window = PITCH_WINDOW

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) int64 samples -> (B,) ones."""
        return torch.ones_like(lengths)

    def features(self, wave: Tensor) -> Tensor:
        """(N,) samples -> (1, 415); fixed constants bring the values to O(1)."""
        cepstra = log_mel(wave, MELS) @ _dct(wave.device) / 16  # (T, 40)
        deltas = 5 * compute_deltas(cepstra.T).T  # (T, 40)
        contours = torch.cat([cepstra, deltas, *_level_and_crossings(wave)], 1)  # (T, 82)
        seconds = torch.arange(len(contours), device=wave.device) * self.hop / self.sample_rate
        pitch, voiced = log_pitch(wave)  # (T',) each, fewer frames
        if not voiced.any():
            pitch, voiced = torch.zeros_like(pitch), torch.ones_like(voiced)
        spoken = statistics(pitch[voiced, None], seconds[: len(pitch)][voiced])  # (5, 1)
        return torch.cat([statistics(contours, seconds), spoken], 1).reshape(1, -1)  # (1, 5 * 83)


def statistics(contours: Tensor, seconds: Tensor) -> Tensor:
    """Mean, biased standard deviation, minimum, maximum and slope over time.

    Args:
        contours: (T, D).
        seconds: (T,), when each value holds.

    Returns:
        (5, D); the slope is that of the least-squares line, a second; 0 where there is one value only.
    """
    mean = contours.mean(0)  # (D,)
    centred, time = contours - mean, seconds - seconds.mean()
    deviation = centred.square().mean(0).sqrt()  # (D,)
    slope = time @ centred / time.square().sum().clamp(min=FLOOR)  # (D,)
    return torch.stack([mean, deviation, contours.amin(0), contours.amax(0), slope])


def log_pitch(wave: Tensor) -> tuple[Tensor, Tensor]:
    """Pitch of every 40 ms.

    Args:
        wave: (N,) samples at 16 kHz, N >= `PITCH_WINDOW`.

    Returns:
        octaves above 60 Hz and whether the frame is voiced, (T,) each, a frame every 10 ms.
    """
    window = torch.hann_window(PITCH_WINDOW, device=wave.device)
    frames = wave.unfold(0, PITCH_WINDOW, Acoustic.hop)  # (T, window)
    found, lag = find_period((frames - frames.mean(1, keepdim=True)) * window, window, FLOOR)
    octaves = torch.log2(Acoustic.sample_rate / lag[:, 0] / LOWEST_HZ)
    return octaves, found[:, SHORTEST : LONGEST + 1].amax(1) >= VOICED


def _level_and_crossings(wave: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) samples -> the logarithm of the root mean square and the share of sign changes, (T, 1) each."""
    frames = wave.unfold(0, 400, Acoustic.hop)  # (T, 400)
    level = frames.square().mean(1, keepdim=True).clamp(min=FLOOR).log() / 2  # (T, 1)
    positive = frames >= 0
    crossings = (positive[:, 1:] != positive[:, :-1]).float().mean(1, keepdim=True)  # (T, 1)
    return (level + 4) / 2, 10 * crossings


@cache
def _dct(device: torch.device) -> Tensor:
    basis: Tensor = create_dct(COEFFICIENTS, MELS, "ortho")  # (mels, 40)
    return basis.to(device)
