"""What the acoustic front-ends share: a clip at a time, so that nothing depends on the batch."""

from __future__ import annotations

import inspect
import sys
from abc import abstractmethod
from typing import Any, ClassVar

import torch
import torchaudio
from torch import Tensor

from undertone.upstream.base import Upstream, fingerprint
from undertone.upstream.types import HiddenStates, WaveBatch, length_mask


class Acoustic(Upstream):
    """An upstream of one layer without weights: frames of `window` samples every `hop` samples, from sample 0 on."""

    # Raise it in the class whose numbers change, here where those of all classes do: stored states are then recomputed.
    VERSION: ClassVar[int] = 1
    sample_rate = 16_000
    num_layers = 1
    window = 400  # samples of a frame (25 ms); a shorter clip is zero-padded to one frame
    hop = 160  # samples between frames (10 ms)
    one_frame = False  # one vector an utterance, whatever its length

    def __init__(self) -> None:
        super().__init__()
        self.name = type(self).__module__.rsplit(".", 1)[-1]

    @abstractmethod
    def features(self, wave: Tensor) -> Tensor:
        """(N,) float32 samples, N >= `window` -> (T, D) features of O(1)."""

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) int64 samples -> (B,) int64 frames."""
        return (
            torch.ones_like(lengths)
            if self.one_frame
            else (lengths.clamp(min=self.window) - self.window) // self.hop + 1
        )

    @torch.no_grad()
    def forward(self, batch: WaveBatch) -> HiddenStates:
        """(B, N) samples -> (B, 1, T, D) features, in float32 under autocast too."""
        self.check_sample_rate(batch)
        states = []
        samples = batch.samples.to(next(self.buffers(), batch.samples).device)  # where the windows and filters are
        with torch.autocast(samples.device.type, enabled=False):
            for wave, length in zip(samples, batch.lengths.tolist(), strict=True):
                wave = torch.nn.functional.pad(wave[:length], (0, max(0, self.window - length)))  # (N,)
                states.append(self.features(wave)[None])  # (1, T, D)
        return HiddenStates.collate(states).to(batch.samples.device)

    def fingerprint(self) -> str:
        """Hex digest of name, options, `VERSION` and torchaudio's version; of a class of the user's its source too."""
        classes = [cls for cls in type(self).__mro__ if issubclass(cls, Acoustic)]
        foreign = {cls.__module__ for cls in classes if not cls.__module__.startswith("undertone.upstream.")}
        settings = {
            "options": dict(self.options),
            "versions": {cls.__name__: vars(cls)["VERSION"] for cls in classes if "VERSION" in vars(cls)},
            "name": type(self).__name__,
            "sources": [inspect.getsource(sys.modules[name]) for name in sorted(foreign)],
            "torchaudio": torchaudio.__version__,
        }
        return fingerprint(settings, {})


class BatchedAcoustic(Acoustic):
    """A front-end that can compute a padded batch at once, in operations that ONNX has."""

    @abstractmethod
    def batch_features(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """Features of several clips.

        Args:
            samples: (B, N), N >= `window`, zeros in the padding.
            lengths: (B,) int64, >= `window`.

        Returns:
            (B, T, D) of the dtype of the samples; T may be more than the frames of the longest clip.
        """

    def features(self, wave: Tensor) -> Tensor:
        """(N,) -> (T, D)."""
        length = torch.tensor([len(wave)], device=wave.device)
        return self.batch_features(wave[None], length)[0, : int(self.frame_lengths(length))]

    def states(self, samples: Tensor, lengths: Tensor, frames: Tensor, padded: bool, longest: Any) -> Tensor:
        """What `forward` computes, for the ONNX exporter, in float64 (see `spectra`); as `FamilyUpstream.states`."""
        features = self.batch_features(samples.double(), lengths.clamp(min=self.window))[:, :longest]  # (B, T, D)
        return (features * length_mask(frames, features.shape[1])[..., None]).float()[:, None]
