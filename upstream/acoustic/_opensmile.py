"""What the openSMILE feature sets share: one vector of functionals an utterance, computed by audEERING's package."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from undertone.upstream.acoustic._base import Acoustic
from undertone.upstream.base import fingerprint

INSTALL = "pip install 'undertone[opensmile]' (openSMILE's licence allows research and no commercial use)"


class OpenSmile(Acoustic):
    """An openSMILE feature set on the level of functionals; the values are openSMILE's own, of any magnitude.

    The audio is read at 16 kHz, as for every other upstream. A clip of less than 0.1 s is zero-padded: openSMILE
    needs a window of 60 ms.
    """

    one_frame = True
    window = 1600
    feature_set: str  # its name in `opensmile.FeatureSet`

    def __init__(self) -> None:
        super().__init__()
        try:
            import opensmile
        except ImportError as error:
            raise ValueError(f"Upstream {self.name!r} needs openSMILE, which is not installed: {INSTALL}.") from error
        self.smile: Any = opensmile.Smile(opensmile.FeatureSet[self.feature_set], opensmile.FeatureLevel.Functionals)

    def features(self, wave: Tensor) -> Tensor:
        """(N,) samples -> (1, D)."""
        values = self.smile(wave.cpu().numpy(), self.sample_rate)  # (1, D, 1)
        return torch.tensor(values, dtype=torch.float32, device=wave.device).reshape(1, -1)

    def fingerprint(self) -> str:
        """As of every acoustic front-end, and openSMILE's version."""
        return fingerprint({"acoustic": super().fingerprint(), "opensmile": version("opensmile")}, {})
