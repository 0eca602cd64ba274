"""Statistics of contours over an utterance: contours are (T, D), a column each; every result is a flat vector."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

PERCENTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
RIDGE = 0.01  # added to the diagonal of a covariance
FRAME_RATE = 100  # Hz
TINY = 1e-6

NUM_KERNELS, WIDTH = 256, 9  # a dilation, frames
DILATIONS = (1, 2, 4, 8)  # frames between a kernel's taps: it reaches over 90 ms to 0.7 s
THRESHOLDS = (-0.5, 0.0, 0.5)
SHARPNESS = 8.0
NUM_RESPONSES = (len(THRESHOLDS) + 1) * len(DILATIONS) * NUM_KERNELS


def moments(contours: Tensor) -> Tensor:
    """(T, D) -> (4 D,): mean, biased standard deviation, skewness within +-5, kurtosis up to 20."""
    mean = contours.mean(0)  # (D,)
    deviation = (contours - mean).square().mean(0).sqrt()  # (D,)
    z = (contours - mean) / (deviation + TINY)  # (T, D)
    return torch.cat([mean, deviation, z.pow(3).mean(0).clamp(-5, 5), z.pow(4).mean(0).clamp(max=20)])


def percentiles(contours: Tensor) -> Tensor:
    """(T, D) -> (7 D,), interpolated, of `PERCENTILES`."""
    return torch.quantile(contours, contours.new_tensor(PERCENTILES), dim=0).flatten()


def course(contours: Tensor) -> Tensor:
    """(T, D) -> (7 D,): how contours go from beginning to end.

    Slope and curvature of the least-squares parabola over time from -1 to 1, root mean square distance from it, mean
    rise and mean fall of the frames that rise or fall, mean change, fraction of frames at which the mean is crossed.
    """
    time = torch.linspace(-1, 1, len(contours), device=contours.device)  # (T,)
    bow = time.square() - time.square().mean()  # orthogonal to the line
    centred = contours - contours.mean(0)  # (T, D)
    slope = time @ centred / time.square().sum().clamp(min=TINY)  # (D,)
    curvature = bow @ centred / bow.square().sum().clamp(min=TINY)
    residual = (centred - time[:, None] * slope - bow[:, None] * curvature).square().mean(0).sqrt()
    steps = contours.diff(dim=0) if len(contours) > 1 else torch.zeros_like(contours)  # (T - 1, D)
    rise = steps.clamp(min=0).sum(0) / (steps > 0).sum(0).clamp(min=1)
    fall = steps.clamp(max=0).sum(0) / (steps < 0).sum(0).clamp(min=1)
    signs = (centred > 0).float()
    crossings = signs.diff(dim=0).abs().sum(0) / len(contours)
    return torch.cat([slope, curvature, residual, rise, fall, steps.abs().mean(0), crossings])


def log_covariance(contours: Tensor) -> Tensor:
    """Covariance as a point of a flat space: the logarithm of the matrix (Arsigny et al., SIAM J. Matrix Anal. 2007).

    (T, D) -> (D (D + 1) / 2,), the upper triangle, off the diagonal times the square root of 2, so that distances stay.
    """
    size = contours.shape[1]
    centred = (contours - contours.mean(0)).double()
    eye = torch.eye(size, dtype=torch.float64, device=contours.device)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(contours) + RIDGE * eye)
    logarithm: Tensor = (vectors * values.clamp(min=RIDGE).log()) @ vectors.T  # (D, D)
    row, column = torch.triu_indices(size, size, device=contours.device)
    scaled: Tensor = logarithm * (eye + math.sqrt(2) * (1 - eye))
    return scaled[row, column].float()


def stretches(mask: Tensor) -> Tensor:
    """(T,) bool -> (4,): mean, standard deviation and maximum in s of its unbroken stretches, and how many a second."""
    edges = torch.nn.functional.pad(mask.int(), (1, 1)).diff()  # (T + 1,)
    lengths = ((edges < 0).nonzero() - (edges > 0).nonzero())[:, 0] / FRAME_RATE  # (S,) s
    if not len(lengths):
        return torch.zeros(4, device=mask.device)
    deviation = (lengths - lengths.mean()).square().mean().sqrt()
    count = lengths.new_tensor(len(lengths) * FRAME_RATE / len(mask))
    return torch.stack([lengths.mean(), deviation, lengths.amax(), count])


def kernel_responses(contours: Tensor, speech: Tensor) -> Tensor:
    """(T, D) and (T,) bool -> (4096,): random convolutional kernels (ROCKET: Dempster et al., DMKD 34, 2020).

    Of each kernel's responses at the frames of speech: the fraction above each of `THRESHOLDS` (soft, so that a
    rounding error moves no frame across) and the standard deviation. The kernels span all contours and are fixed; these
    are of O(1), with the mean 0 over the frames of speech.
    """
    found = []
    for dilation, kernels in zip(DILATIONS, _kernels(contours.shape[1], contours.device), strict=True):
        padding = dilation * (WIDTH // 2)
        responses = torch.nn.functional.conv1d(contours.T[None], kernels, dilation=dilation, padding=padding)
        spoken = responses[0][:, speech]  # (K, S)
        found += [torch.sigmoid(SHARPNESS * (spoken - threshold)).mean(1) for threshold in THRESHOLDS]
        found.append(spoken.std(1, correction=0))
    return torch.cat(found)


@cache
def _kernels(num_contours: int, device: torch.device) -> tuple[Tensor, ...]:
    """For each dilation (K, D, width) of length 1; every other one sums to 0 over time, for changes alone."""
    generator = torch.Generator().manual_seed(0)
    kernels = torch.randn(len(DILATIONS) * NUM_KERNELS, num_contours, WIDTH, generator=generator)
    kernels[::2] -= kernels[::2].mean(2, keepdim=True)
    kernels /= kernels.flatten(1).norm(dim=1)[:, None, None]
    return kernels.to(device).chunk(len(DILATIONS))
