"""Statistics of an utterance's cepstra, pitch, loudness and zero crossings, with torchaudio alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.functional import create_dct

from undertone.upstream.acoustic._base import Acoustic, BatchedAcoustic
from undertone.upstream.acoustic._voice import LONGEST, LOWEST_HZ, PITCH_WINDOW, SHORTEST, find_period
from undertone.upstream.spectra import FLOOR, HOP, WINDOW, LogMel, cut_frames, deltas, is_exporting
from undertone.upstream.types import length_mask

MELS, COEFFICIENTS = 64, 40
VOICED = 0.5  # autocorrelation at the best lag from which on a frame counts as voiced


class Functionals(BatchedAcoustic):
    """40 MFCCs with deltas, log F0, level and zero crossings -> mean, deviation, minimum, maximum, slope: 415 numbers.

    One "frame" an utterance, for heads that need no order in time: `svm`, `logistic`, `lda`, `dense`. What is measured
    is that of systems with hand-crafted features before openSMILE's sets were common; the sizes are ours. F0 counts
    where the voice is voiced; where it never is, its five numbers are those of 60 Hz throughout. The slope is a
    second's change.
    """

    VERSION = 1
    one_frame = True
    hidden_size = 5 * (2 * COEFFICIENTS + 3)
    window = PITCH_WINDOW

    def __init__(self) -> None:
        super().__init__()
        self.log_mel = LogMel.kaldi(MELS)
        self.basis = nn.Buffer(create_dct(COEFFICIENTS, MELS, "ortho"), persistent=False)  # (mels, 40)
        self.pitch_window = nn.Buffer(torch.hann_window(PITCH_WINDOW), persistent=False)

    def batch_features(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """(B, 1, 415); fixed constants bring the values to O(1)."""
        contours = self._contours(samples, lengths)  # (B, T, 82)
        spectral = statistics(contours, length_mask(count_frames(lengths, WINDOW), contours.shape[1]))  # (B, 5, 82)
        pitch, voiced, real = log_pitch(samples, lengths, self.pitch_window)  # (B, T') each, fewer frames
        ever = voiced.any(1, keepdim=True)  # (B, 1)
        spoken = statistics((pitch * ever)[..., None], voiced | (real & ~ever))  # (B, 5, 1)
        return torch.cat([spectral, spoken], 2).flatten(1)[:, None]

    def _contours(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, 82): cepstra, their deltas, the logarithm of the root mean square, the fraction of sign changes."""
        frames = cut_frames(samples, WINDOW, HOP)  # (B, T, 400)
        cepstra = self.log_mel(frames) @ self.basis / 16  # (B, T, 40)
        level = frames.square().mean(2, keepdim=True).clamp(min=FLOOR).log() / 2  # (B, T, 1)
        positive = frames >= 0
        crossings = (positive[..., 1:] != positive[..., :-1]).to(frames.dtype).mean(2, keepdim=True)  # (B, T, 1)
        slopes = 5 * deltas(cepstra, count_frames(lengths, WINDOW))  # (B, T, 40)
        return torch.cat([cepstra, slopes, (level + 4) / 2, 10 * crossings], 2)


def count_frames(lengths: Tensor, window: int) -> Tensor:
    """(B,) samples -> (B,) frames of `window` samples."""
    return torch.div(lengths - window, HOP, rounding_mode="floor") + 1


def statistics(contours: Tensor, mask: Tensor) -> Tensor:
    """(B, T, D), a frame every 10 ms, and a (B, T) mask -> (B, 5, D) statistics of its frames, one or more a clip.

    Mean, biased standard deviation, minimum, maximum, and the slope of the least-squares line, a second, which is 0
    where there is one frame only.
    """
    seconds = (torch.arange(contours.shape[1], device=contours.device) * HOP / Acoustic.sample_rate)[None]  # (1, T)
    alone = len(contours) == 1 and not is_exporting()
    if alone:  # sums are then rounded as if there were no other frames
        contours, seconds, mask = contours[:, mask[0]], seconds[:, mask[0]], mask[:, mask[0]]
    counted = mask[..., None].to(contours.dtype)  # (B, T, 1)
    count = counted.sum(1)  # (B, 1)
    mean = (contours * counted).sum(1) / count  # (B, D)
    centred = (contours - mean[:, None]) * counted  # (B, T, D)
    deviation = (centred.square().sum(1) / count).sqrt()  # (B, D)
    time = (seconds - (seconds * mask).sum(1, keepdim=True) / count) * mask  # (B, T)
    rise = (time[0] @ centred[0])[None] if alone else (time[:, None] @ centred)[:, 0]  # (B, D)
    slope = rise / time.square().sum(1, keepdim=True).clamp(min=FLOOR)  # (B, D)
    lowest = contours.masked_fill(~mask[..., None], torch.inf).amin(1)  # (B, D)
    highest = contours.masked_fill(~mask[..., None], -torch.inf).amax(1)
    return torch.stack([mean, deviation, lowest, highest, slope], 1)


def log_pitch(samples: Tensor, lengths: Tensor, window: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N >= 640) samples -> octaves above 60 Hz, whether voiced, whether real: (B, T), a frame every 10 ms."""
    frames = cut_frames(samples, PITCH_WINDOW, HOP)  # (B, T, 640)
    found, lag = find_period((frames - frames.mean(2, keepdim=True)) * window, window, FLOOR)
    real = length_mask(count_frames(lengths, PITCH_WINDOW), frames.shape[1])  # (B, T)
    voiced = real & (found[..., SHORTEST : LONGEST + 1].amax(2) >= VOICED)
    return torch.log2(Acoustic.sample_rate / lag[..., 0] / LOWEST_HZ), voiced, real
