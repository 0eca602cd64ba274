"""Target units of masked prediction: a class for each frame, found without labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from undertone.common.files import atomic_path
from undertone.pretraining.settings import Pretraining
from undertone.training.seeding import generator_of
from undertone.upstream import load_upstream
from undertone.upstream.acoustic.logmel import Logmel
from undertone.upstream.acoustic.mfcc import Mfcc
from undertone.upstream.base import Upstream
from undertone.upstream.types import WaveBatch

FITTED_FRAMES = 200_000  # of k-means
PROJECTION, STACKED = 16, 2  # BEST-RQ: dimensions of a code, frames of 10 ms that are joined


class Units(nn.Module, ABC):
    """Samples -> a unit for each frame of the model."""

    @abstractmethod
    def features(self, wave: Tensor, sample_rate: int) -> Tensor:
        """(N,) samples -> (T', D) of the frames that are classified."""

    @abstractmethod
    def classify(self, features: Tensor) -> Tensor:
        """(T, D) -> (T,) int64 units."""

    def fit(self, waves: Iterator[tuple[Tensor, int]], seed: int, progress: Callable[[int], None]) -> None:
        """Learn from waves with their sample rates; units that are drawn need none."""
        return

    @torch.no_grad()
    def forward(self, wave: Tensor, sample_rate: int, num_frames: int) -> Tensor:
        """(N,) samples -> (num_frames,) int64; each frame of the model takes the features at its own time."""
        return self.classify(at_frames(self.features(wave, sample_rate), num_frames))


def at_frames(features: Tensor, num_frames: int) -> Tensor:
    """(T', D) -> (num_frames, D): of each of `num_frames` frames over the same time, the features at its middle."""
    middle = (torch.arange(num_frames) + 0.5) * len(features) / num_frames
    return features[middle.long().clamp(max=len(features) - 1)]


class KMeansUnits(Units):
    """The nearest of K centres, by scikit-learn's MiniBatchKMeans (HuBERT: Hsu et al. 2021, arXiv 2106.07447).

    Args:
        source: `mfcc`, or an upstream whose layer is clustered, as it is now: it is never trained here.
        num_units: K.
        layer: of the upstream.
    """

    centres: Tensor

    def __init__(self, source: Upstream, num_units: int, layer: int = 0) -> None:
        super().__init__()
        if not 0 <= layer < source.num_layers:
            raise ValueError(f"--targets layer:{layer}: {source.name!r} has the layers 0 to {source.num_layers - 1}.")
        self.source, self.layer = source.eval().requires_grad_(False), layer
        self.centres = nn.Buffer(torch.zeros(num_units, source.hidden_size))

    @torch.no_grad()
    def features(self, wave: Tensor, sample_rate: int) -> Tensor:
        """(N,) -> (T', D)."""
        device = next((weight.device for weight in self.source.parameters()), wave.device)
        states = self.source(WaveBatch.collate([wave], sample_rate).to(device)).states  # (1, L, T', D)
        return states[0, self.layer].float().cpu()

    def classify(self, features: Tensor) -> Tensor:
        """(T, D) -> (T,)."""
        return torch.cdist(features, self.centres.cpu()).argmin(1)

    def fit(self, waves: Iterator[tuple[Tensor, int]], seed: int, progress: Callable[[int], None]) -> None:
        """Find the centres from the frames of the waves, with their sample rates, up to `FITTED_FRAMES`.

        Raises:
            ValueError: fewer frames than units.
        """
        from sklearn.cluster import MiniBatchKMeans

        rows, count = [], 0
        for wave, sample_rate in waves:
            rows.append(self.features(wave, sample_rate))
            count += len(rows[-1])
            progress(count)
            if count >= FITTED_FRAMES:
                break
        if count < len(self.centres):
            raise ValueError(f"{len(self.centres)} units need as many frames, got {count}. Give more audio.")
        clusters = MiniBatchKMeans(len(self.centres), random_state=seed % 2**32, n_init=3, batch_size=4096)
        clusters.fit(torch.cat(rows).numpy())
        self.centres.copy_(torch.from_numpy(clusters.cluster_centers_))


class MelUnits(Units):
    """The nearest of K random codes to a random projection of log-mel energies: BEST-RQ (Chiu et al. 2022).

    arXiv 2202.01855, section 3.1: two frames of 10 ms are joined, normalised over the utterance, projected by a
    Xavier-uniform matrix and compared, at unit length, with codes drawn from a normal distribution. Nothing is fitted.

    Args:
        num_units: K.
        seed: of projection and codes.
    """

    def __init__(self, num_units: int, seed: int) -> None:
        super().__init__()
        self.log_mel = Logmel(80)
        size, generator = STACKED * self.log_mel.hidden_size, generator_of(seed, "codes")
        bound = (6 / (size + PROJECTION)) ** 0.5
        projection = (2 * torch.rand(size, PROJECTION, generator=generator) - 1) * bound
        self.projection = nn.Buffer(projection)
        self.codes = nn.Buffer(nn.functional.normalize(torch.randn(num_units, PROJECTION, generator=generator)))

    @torch.no_grad()
    def features(self, wave: Tensor, sample_rate: int) -> Tensor:
        """(N,) -> (T', 2 M), zero mean and unit variance over the utterance."""
        frames = self.log_mel(WaveBatch.collate([wave], sample_rate)).states[0, 0]  # (T, M)
        frames = frames[: len(frames) // STACKED * STACKED] if len(frames) >= STACKED else frames.repeat(STACKED, 1)
        joined = frames.unflatten(0, (-1, STACKED)).flatten(1)  # (T', 2 M)
        return (joined - joined.mean(0)) / (joined.std(0, correction=0) + 1e-5)

    def classify(self, features: Tensor) -> Tensor:
        """(T, 2 M) -> (T,)."""
        projected = nn.functional.normalize(features @ self.projection)  # (T, PROJECTION)
        return (projected @ self.codes.T).argmax(1)


def save_units(units: nn.Module, path: Path) -> None:
    """Write what was fitted or drawn."""
    with atomic_path(path) as draft:
        save_file({name: value.contiguous() for name, value in units.named_buffers(recurse=False)}, draft)


def load_units(units: nn.Module, path: Path) -> None:
    """Read back what `save_units` wrote."""
    for name, value in load_file(path).items():
        getattr(units, name).copy_(value)


def make_units(settings: Pretraining) -> Units:
    """What `targets` stands for; k-means is not fitted yet."""
    if settings.targets == "mel":
        return MelUnits(settings.num_units, settings.seed)
    if settings.targets == "mfcc":
        return KMeansUnits(Mfcc(), settings.num_units)
    source = load_upstream(str(settings.upstream), revision=settings.revision)
    return KMeansUnits(source, settings.num_units, int(settings.targets.removeprefix("layer:")))
