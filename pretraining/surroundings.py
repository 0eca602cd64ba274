"""What the workers regress: statistics of timbre, loudness and voice in the second around each frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from undertone.pretraining.units import FITTED_FRAMES, at_frames
from undertone.upstream.acoustic._spectral_shape import spectral_shape
from undertone.upstream.acoustic._voice import VOICED, voice
from undertone.upstream.acoustic.mfcc import Mfcc
from undertone.upstream.spectra import WINDOW
from undertone.upstream.types import WaveBatch

AROUND = 101  # frames of 10 ms, the one in the middle included
APART = 4  # frames over which a change is taken
LARGEST = 4.0  # standard deviations; what lies beyond counts as so far


class Surroundings(nn.Module):
    """Samples -> for each frame of the model, what PASE's workers regress (Pascual et al. 2019, arXiv 1904.03416).

    Mean, standard deviation and mean absolute change of 13 cepstra, 19 numbers of the spectrum's shape and 9 of pitch
    and voice quality, the latter over voiced frames alone, and the voiced fraction; in standard deviations over the
    speech that it was fitted to.
    """

    size = 3 * (13 + 19 + 9) + 1

    def __init__(self) -> None:
        super().__init__()
        self.mfcc = Mfcc(deltas=False)
        self.mean, self.deviation = nn.Buffer(torch.zeros(self.size)), nn.Buffer(torch.ones(self.size))

    @torch.no_grad()
    def forward(self, wave: Tensor, num_frames: int) -> Tensor:
        """(N,) samples at 16 kHz -> (num_frames, size)."""
        found = (at_frames(self.statistics(wave), num_frames) - self.mean) / self.deviation
        return found.clamp(-LARGEST, LARGEST)

    def statistics(self, wave: Tensor) -> Tensor:
        """(N,) -> (T', size) every 10 ms, before they are brought to one scale."""
        wave = nn.functional.pad(wave, (0, max(0, WINDOW - len(wave))))
        cepstra = self.mfcc(WaveBatch.collate([wave], self.mfcc.sample_rate)).states[0, 0]  # (T', 13)
        always = cepstra.new_ones(len(cepstra), 1)
        quality, periodic = voice(wave)  # (T', 9), (T',)
        voiced = (periodic > VOICED).float()[:, None]
        timbre = torch.cat([cepstra, spectral_shape(wave)], 1)  # (T', 32)
        return torch.cat([_statistics(timbre, always), _statistics(quality, voiced), _mean(voiced, always)], 1)

    @torch.no_grad()
    def fit(self, waves: Iterator[tuple[Tensor, int]], seed: int, progress: Callable[[int], None]) -> None:
        """Find mean and deviation over the frames of the waves; nothing is drawn."""
        rows, count = [], 0
        for wave, _ in waves:
            rows.append(self.statistics(wave))
            count += len(rows[-1])
            progress(count)
            if count >= FITTED_FRAMES:
                break
        every = torch.cat(rows)
        self.mean.copy_(every.mean(0))
        self.deviation.copy_(every.std(0, correction=0) + 1e-4)


def _statistics(contours: Tensor, weights: Tensor) -> Tensor:
    """(T, D), (T, 1) -> (T, 3 D): weighted mean, standard deviation and mean absolute change around each frame."""
    mean, centre = _mean(contours, weights), contours.mean(0)
    square = _mean((contours - centre).square(), weights)  # about one point, so that no digits are lost
    deviation = (square - (mean - centre).square()).clamp(min=0).sqrt()
    change = torch.zeros_like(contours)
    change[APART:] = (contours[APART:] - contours[:-APART]).abs()
    return torch.cat([mean, deviation, _mean(change, weights)], 1)


def _mean(contours: Tensor, weights: Tensor) -> Tensor:
    """(T, D), (T, 1) -> (T, D) weighted means over `AROUND` frames around each; 0 where all weights are."""
    sums = _sums(torch.cat([contours * weights, weights], 1))  # (T, D + 1)
    return sums[:, :-1] / sums[:, -1:].clamp(min=1)


def _sums(values: Tensor) -> Tensor:
    """(T, D) -> (T, D) sums over the frames around each that there are."""
    total = torch.cat([values.new_zeros(1, values.shape[1]), values]).double().cumsum(0)  # (T + 1, D)
    places = torch.arange(len(values))
    first, last = (places - AROUND // 2).clamp(min=0), (places + AROUND // 2 + 1).clamp(max=len(values))
    return (total[last] - total[first]).float()
