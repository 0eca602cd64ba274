"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Literal


def rate_factor(step: int, total: int, warmup: float, schedule: Literal["linear", "cosine", "constant"]) -> float:
    """The factor in 0..1 of the peak rate at update `step` (0-based) of `total`.

    It rises linearly over the first `warmup` share of the steps, then falls to 0 by `schedule` (or stays, `constant`).
    """
    rising = math.ceil(warmup * total)
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, total - rising)
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return max(0.0, 1 - done)
