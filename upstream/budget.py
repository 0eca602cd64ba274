"""How much room stored hidden states need, and how much there is."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import torch

from undertone.upstream.base import Upstream
from undertone.upstream.shard import DTYPES
from undertone.upstream.store import Kind

SCALE_BYTES = 4  # of int8's scale of a layer and feature


def stored_bytes(
    upstream: Upstream, seconds: Iterable[float], kind: Kind, dtype: str = "float16", num_mixtures: int = 0
) -> int:
    """Bytes of the states of utterances of so many seconds, but for a few of each shard's header."""
    samples = torch.tensor([round(length * upstream.sample_rate) for length in seconds], dtype=torch.int64)
    if kind == "mean":
        return len(samples) * upstream.num_layers * upstream.hidden_size * torch.float32.itemsize
    frames = int(upstream.frame_lengths(samples).sum()) if len(samples) else 0
    layers = num_mixtures if kind == "mixture" else upstream.num_layers
    scales = len(samples) * SCALE_BYTES if dtype == "int8" else 0
    return layers * upstream.hidden_size * (frames * DTYPES[dtype].itemsize + scales)


def free_bytes(folder: Path) -> int:
    """What is free on the disk that `folder` lies on, or will."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def in_words(num_bytes: int) -> str:
    """As people count: 1234567 -> `1.2 MB`."""
    value, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.1f} {units[0]}"
