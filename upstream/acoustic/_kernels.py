"""Convolutions with random kernels over the contours of an utterance, and how often and how far they answer."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

NUM_KERNELS, WIDTH = 256, 9  # a dilation, frames
DILATIONS = (1, 2, 4, 8)  # frames between a kernel's taps: it reaches over 90 ms to 0.7 s
THRESHOLDS = (-0.5, 0.0, 0.5)
SHARPNESS = 8.0
NUM_ANSWERS = (len(THRESHOLDS) + 1) * len(DILATIONS) * NUM_KERNELS


def kernel_answers(contours: Tensor, speech: Tensor) -> Tensor:
    """Random convolutional kernels (ROCKET: Dempster, Petitjean and Webb, DMKD 34, 2020).

    Of what each kernel answers at the frames of speech: the share above each of `THRESHOLDS` (soft, so that a rounding
    error moves no frame across) and the deviation. The kernels reach over all contours and are the same for everyone.

    Args:
        contours: (T, D) of O(1), with the mean 0 over the frames of speech.
        speech: (T,) bool, true at one frame at least.

    Returns:
        (4096,).
    """
    found = []
    for dilation, kernels in zip(DILATIONS, _kernels(contours.shape[1], contours.device), strict=True):
        padding = dilation * (WIDTH // 2)
        answers = torch.nn.functional.conv1d(contours.T[None], kernels, dilation=dilation, padding=padding)
        heard = answers[0][:, speech]  # (K, S)
        found += [torch.sigmoid(SHARPNESS * (heard - threshold)).mean(1) for threshold in THRESHOLDS]
        found.append(heard.std(1, correction=0))
    return torch.cat(found)


@cache
def _kernels(num_contours: int, device: torch.device) -> tuple[Tensor, ...]:
    """For each dilation (K, D, width) of length 1; every other kernel sums to 0 over time and hears changes alone."""
    generator = torch.Generator().manual_seed(0)
    kernels = torch.randn(len(DILATIONS) * NUM_KERNELS, num_contours, WIDTH, generator=generator)
    kernels[::2] -= kernels[::2].mean(2, keepdim=True)
    kernels /= kernels.flatten(1).norm(dim=1)[:, None, None]
    return kernels.to(device).chunk(len(DILATIONS))
