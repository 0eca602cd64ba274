"""The settings of a ladder, `ladder.NAME=value`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from undertone.common.discovery import nearest


@dataclass(frozen=True)
class LadderOptions:
    """How layers are corrupted and reconstructed.

    Attributes:
        noise: standard deviation at the input and at every layer; Rasmus et al. use 0.3, Parthasarathy & Busso 0.548.
        lambdas: weight of each layer's cost from layer 0 on, the last one for all above; the costs are means over
            units. 0,0,1 reconstructs the top layer alone (the Gamma model).
        denoiser: `gaussian` (ten numbers a unit) or `mlp` (one small network for all units).
        detach: the clean values are what is aimed at, and no gradient goes through them. Where the layer sum or the
            upstream learns, they collapse without it; the paper does not do it.
        first: reconstruct first, without labels, then keep the layers and learn the outputs: an autoencoder.
    """

    noise: float = 0.3
    lambdas: tuple[float, ...] = (1.0,)
    denoiser: Literal["gaussian", "mlp"] = "gaussian"
    detach: bool = True
    first: bool = False

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> LadderOptions:
        """From a config; `lambdas` may be one number, several with commas, or a list.

        Raises:
            ValueError: an unknown option or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise ValueError(f"ladder has no option {name!r}.{nearest(name, known)}")
        return cls(**{**options, **({"lambdas": _numbers(options["lambdas"])} if "lambdas" in options else {})})

    def __post_init__(self) -> None:
        if isinstance(self.noise, bool) or not isinstance(self.noise, int | float) or not 0 <= self.noise < math.inf:
            raise ValueError(f"ladder.noise must be a number >= 0, got {self.noise!r}.")
        if self.denoiser not in ("gaussian", "mlp"):
            raise ValueError(f"ladder.denoiser must be gaussian or mlp, got {self.denoiser!r}.")
        for name in ("detach", "first"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"ladder.{name} must be true or false, got {getattr(self, name)!r}.")

    def weights(self, num_layers: int) -> tuple[float, ...]:
        """A weight for each of so many layers.

        Raises:
            ValueError: there are more weights than layers.
        """
        if len(self.lambdas) > num_layers:
            raise ValueError(
                f"ladder.lambdas has {len(self.lambdas)} weights, but this head has {num_layers} layers to reconstruct "
                f"with its input."
            )
        return self.lambdas + self.lambdas[-1:] * (num_layers - len(self.lambdas))


def _numbers(value: Any) -> tuple[float, ...]:
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    try:
        found = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        found = ()
    if not found or not all(0 <= number < math.inf for number in found):
        raise ValueError(f"ladder.lambdas must be numbers >= 0 such as 1,0.1,0.1, got {value!r}.")
    return found
