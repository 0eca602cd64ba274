"""How the contours of an utterance move, and move together; every result is a flat vector."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio.functional import create_dct, lfilter

from undertone.upstream.acoustic._spectral_shape import EVEN, LEVEL, evened
from undertone.upstream.acoustic._statistics import FRAME_RATE, course, log_covariance, moments, percentiles

BANDS = 20
LOUDNESS, CENTROID, SLOPE = 2, 3, 12  # columns of `spectral_shape`
VOICE_SCALE = (0.3, 1, 3, 3, 4, 4, 4, 0.1, 3)  # of the columns of `voice`, brings them to O(1)
RASTA = (1.0, -0.94, 0.0, 0.0, 0.0), (0.2, 0.1, 0.0, -0.1, -0.2)
MODULATION_WINDOW, MODULATION_HOP = 256, 64  # frames
MODULATION_HZ = (0.4, 1, 1.6, 2.4, 3.5, 5, 7, 10, 14, 20, 30, 50)
POINTS, COSINES = 40, 7  # of a contour over an utterance, whatever it lasts
NUM_DYNAMICS = 2 * 18 * BANDS + (BANDS + 3) * len(MODULATION_HZ) + 4 * COSINES + 3 * 49 + 780 + 406 + 300


def dynamics(
    mels: Tensor, cepstra: Tensor, shape: Tensor, voice: Tensor, speech: Tensor, voiced: Tensor
) -> dict[str, Tensor]:
    """{what: its numbers}, `NUM_DYNAMICS` in all.

    Statistics of the loudness of bands and of RASTA-filtered bands, from which a fixed channel is gone (Hermansky &
    Morgan, IEEE Trans. SAP 2(4), 1994); modulation spectra (Wu, Falk & Chan, Speech Communication 53, 2011); pitch,
    level, centroid and slope as a sum of cosines over the utterance; how its thirds differ from the whole; and how
    cepstra, voice and prosody go together, at once or some frames later.

    Args:
        mels: (T, 40) log-mel energies.
        cepstra: (T, 20) of O(1).
        shape: (T, 19), see `spectral_shape`.
        voice: (T, 9), see `voice`.
        speech: (T,) bool, where it is loud enough, somewhere at least.
        voiced: (T,) bool, where it is periodic too.
    """
    few, even = cepstra[:, :13], evened(shape)
    bands = mels.unflatten(1, (BANDS, -1)).logsumexp(2)  # (T, bands)
    loudness = (bands / 3).exp()
    pitch = _bridged(voice[:, 0], voiced)  # (T,)
    scale = voice.new_tensor(VOICE_SCALE)
    together = torch.cat([voice / scale, even / EVEN], 1)[voiced] if voiced.any() else voice.new_zeros(1, 28)
    prosody = torch.cat([pitch[:, None] / 0.3, even[:, [LEVEL, LOUDNESS, CENTROID, SLOPE]], few[:, :1]], 1)  # (T, 6)
    return {
        "loudness": _statistics(loudness / loudness.mean(), speech),
        "RASTA": _statistics(_rasta(bands - bands.mean(0)), speech),
        "modulation": _modulation(torch.cat([bands, shape[:, [LEVEL, LOUDNESS, CENTROID]]], 1)),
        "intonation": _cosines(torch.cat([pitch[:, None], shape[:, [LEVEL, CENTROID, SLOPE]]], 1)),
        "thirds": _thirds(torch.cat([cepstra, shape], 1), voice, speech, voiced),
        "cepstra over time": log_covariance(_lagged(few, 4, 3)),
        "voice with shape": log_covariance(together),
        "prosody over time": log_covariance(_lagged(prosody, 10, 4)),
    }


def _statistics(contours: Tensor, speech: Tensor) -> Tensor:
    """(T, D) -> (18 D,)."""
    return torch.cat([moments(contours[speech]), percentiles(contours[speech]), course(contours)])


def _bridged(contour: Tensor, known: Tensor) -> Tensor:
    """(T,), straight from one known frame to the next; 0 everywhere where fewer than two are."""
    places = known.nonzero()[:, 0]
    if len(places) < 2:
        return torch.zeros_like(contour)
    time = torch.arange(len(contour), device=contour.device)
    after = torch.searchsorted(places, time).clamp(1, len(places) - 1)
    left, right = places[after - 1], places[after]
    return torch.lerp(contour[left], contour[right], ((time - left) / (right - left)).clamp(0, 1))


def _rasta(bands: Tensor) -> Tensor:
    """(T, D) -> (T, D) with modulations of about 1 to 12 Hz."""
    poles, zeros = (bands.new_tensor(part) for part in RASTA)
    return lfilter(bands.T.contiguous(), poles, zeros, clamp=False).T


def _modulation(contours: Tensor) -> Tensor:
    """(T, D) -> (12 D,): log fractions of the power of a contour's changes in bands of modulation, and its log.

    The power is summed over windows, so that it grows with the duration; frames after the last whole hop are in none.
    """
    contours = (contours - contours.mean(0)).T  # (D, T)
    padded = F.pad(contours, (0, max(0, MODULATION_WINDOW - contours.shape[1])))
    windows = padded.unfold(1, MODULATION_WINDOW, MODULATION_HOP)  # (D, P, window)
    hann = torch.hann_window(MODULATION_WINDOW, device=contours.device)
    power = torch.fft.rfft(windows * hann).abs().square().sum(1)  # (D, F)
    hz = torch.fft.rfftfreq(MODULATION_WINDOW, 1 / FRAME_RATE, device=contours.device)
    edges = zip(MODULATION_HZ, MODULATION_HZ[1:], strict=False)
    parts = torch.stack([power[:, (hz >= low) & (hz < high)].sum(1) for low, high in edges], 1)  # (D, 11)
    total = parts.sum(1, keepdim=True)
    return torch.cat([(parts / total.clamp(min=1e-6)).clamp(min=1e-5).log(), total.clamp(min=1e-4).log()], 1).flatten()


def _cosines(contours: Tensor) -> Tensor:
    """(T, D) -> (7 D,), the slowest cosines of each contour stretched to one length."""
    centred = (contours - contours.mean(0)).T[None]  # (1, D, T)
    stretched = F.interpolate(centred, size=POINTS, mode="linear", align_corners=True)[0]  # (D, points)
    return (stretched @ _basis(contours.device)).flatten()


@cache
def _basis(device: torch.device) -> Tensor:
    """(points, 7): cosines without the constant."""
    return create_dct(1 + COSINES, POINTS, "ortho")[:, 1:].to(device)


def _thirds(timbre: Tensor, voice: Tensor, speech: Tensor, voiced: Tensor) -> Tensor:
    """(T, 39), (T, 9) -> (147,): means over each third less those over the whole, and its fraction of speech."""
    found = []
    for part in torch.arange(len(timbre), device=timbre.device).tensor_split(3):
        for contours, chosen in ((timbre, speech), (voice, voiced)):
            own = contours[part][chosen[part]]
            found.append(own.mean(0) - contours[chosen].mean(0) if len(own) else contours.new_zeros(contours.shape[1]))
        found.append(speech[part].float().sum()[None] / max(1, len(part)))
    return torch.cat(found)


def _lagged(contours: Tensor, step: int, count: int) -> Tensor:
    """(T, D) -> (T', count D): each frame beside those `step` and more later, which in a short utterance are nearer."""
    step = min(step, (len(contours) - 1) // count)
    frames = len(contours) - step * (count - 1)
    return torch.cat([contours[step * place : step * place + frames] for place in range(count)], 1)
