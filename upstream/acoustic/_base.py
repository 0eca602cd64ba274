"""What the acoustic front-ends share: a clip at a time, so that nothing depends on the batch."""

from __future__ import annotations

import inspect
import sys
from abc import abstractmethod
from pathlib import Path

import torch
import torchaudio
from torch import Tensor

from undertone.upstream.base import Upstream
from undertone.upstream.fingerprint import fingerprint
from undertone.upstream.types import HiddenStates, WaveBatch


class Acoustic(Upstream):
    """An upstream of one layer without weights: frames of `window` samples every `hop` samples, the first at sample 0.

    Attributes:
        window: samples of a frame (25 ms); a shorter clip is zero-padded to one frame.
        hop: samples between frames (10 ms).
    """

    sample_rate = 16_000
    num_layers = 1
    window = 400
    hop = 160

    def __init__(self) -> None:
        super().__init__()
        self.name = type(self).__module__.rsplit(".", 1)[-1]

    @abstractmethod
    def features(self, wave: Tensor) -> Tensor:
        """(N,) float32 samples, N >= `window` -> (T, D) features of O(1)."""

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) int64 samples -> (B,) int64 frames."""
        return (lengths.clamp(min=self.window) - self.window) // self.hop + 1

    @torch.no_grad()
    def forward(self, batch: WaveBatch) -> HiddenStates:
        """(B, N) samples -> (B, 1, T, D) features, in float32 under autocast too."""
        self.check_sample_rate(batch)
        states = []
        with torch.autocast(batch.samples.device.type, enabled=False):
            for wave, length in zip(batch.samples, batch.lengths.tolist(), strict=True):
                wave = torch.nn.functional.pad(wave[:length], (0, max(0, self.window - length)))  # (N,)
                states.append(self.features(wave)[None])  # (1, T, D)
        return HiddenStates.collate(states).to(batch.samples.device)

    def fingerprint(self) -> str:
        """Hex digest of the source of the front-end and of all that front-ends share, options, torchaudio's version."""
        modules = sorted({cls.__module__ for cls in type(self).__mro__ if issubclass(cls, Acoustic)})
        sources = [inspect.getsource(sys.modules[name]) for name in modules] + shared_sources()
        settings = {"options": dict(self.options), "sources": sources, "torchaudio": torchaudio.__version__}
        return fingerprint(settings, {})


def shared_sources() -> list[str]:
    """The modules that front-ends import: a change in one makes what is stored of any front-end anew."""
    return [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("_*.py"))]
