"""The stores on a disk: how much room they need and how much there is; list, verify and prune them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from undertone.common.files import read_record
from undertone.upstream.base import Upstream
from undertone.upstream.store.shard import DTYPES, SUFFIX, Shard, find_damage
from undertone.upstream.store.store import FORMAT, META, Kind

SCALE_BYTES = 4  # of int8's scale of a layer and feature


def stored_bytes(upstream: Upstream, seconds: Iterable[float], kind: Kind, dtype: str = "float16") -> int:
    """Bytes of the states of utterances of so many seconds, but for a few of each shard's header."""
    samples = torch.tensor([round(length * upstream.sample_rate) for length in seconds], dtype=torch.int64)
    if kind == "mean":
        return len(samples) * upstream.num_layers * upstream.hidden_size * torch.float32.itemsize
    frames = int(upstream.frame_lengths(samples).sum()) if len(samples) else 0
    scales = len(samples) * SCALE_BYTES if dtype == "int8" else 0
    return upstream.num_layers * upstream.hidden_size * (frames * DTYPES[dtype].itemsize + scales)


def free_bytes(folder: Path) -> int:
    """What is free on the disk that `folder` lies on, or will."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def in_words(num_bytes: int) -> str:
    """1234567 -> `1.2 MB`."""
    value, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.1f} {units[0]}"


# ---- All stores of a folder: what there is, whether it is whole, and making room.

DAY = 24 * 3600.0
OLD_FORMAT = "it was written by another version of undertone"


@dataclass(frozen=True)
class StoreInfo:
    """A line of `undertone store list`."""

    folder: Path  # where it lies; its name is long, the first letters do
    upstream: str  # name of the upstream
    kind: str  # `frames` or `mean`
    dtype: str  # of the stored states
    precision: str  # of the upstream's arithmetic
    utterances: int  # distinct clips
    num_bytes: int  # of its files
    last_used: float  # s since 1970
    current: bool  # whether this version of the package reads it


def list_stores(root: Path) -> list[StoreInfo]:
    """The stores of a folder, the last used first."""
    found = [_read(meta.parent) for meta in root.glob(f"*/{META}")]
    return sorted(found, key=lambda info: (-info.last_used, info.folder.name))


def verify_stores(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Read every byte of every shard: (shard, what is wrong with it or None), one after the other."""
    for info in list_stores(root):
        for shard in sorted(info.folder.glob(f"*{SUFFIX}")):
            yield shard, find_damage(shard) if info.current else OLD_FORMAT


def prune_stores(root: Path, names: Sequence[str] = (), days: float = 30.0) -> list[StoreInfo]:
    """Remove stores: those whose folder begins with one of `names`, or, without names, those that are no longer needed.

    Args:
        root: folder of all stores.
        names: first letters of folders, as many as tell them apart.
        days: without names: not used for so long, or of another version of the package.

    Returns:
        what was removed.

    Raises:
        ValueError: a name fits no store, or several.
    """
    stores = list_stores(root)
    if names:
        chosen = [_only(stores, name, root) for name in names]
    else:
        chosen = [info for info in stores if not info.current or time.time() - info.last_used > days * DAY]
    for info in chosen:
        shutil.rmtree(info.folder)
    return chosen


def _only(stores: Sequence[StoreInfo], name: str, root: Path) -> StoreInfo:
    fitting = [info for info in stores if info.folder.name.startswith(name)]
    if len(fitting) != 1:
        raise ValueError(
            f"{name!r} is the beginning of {len(fitting)} stores. Their names: `undertone store list --store {root}`."
        )
    return fitting[0]


def _read(folder: Path) -> StoreInfo:
    meta = read_record(folder / META, upstream=dict, kind=str, dtype=str)
    shards = list(folder.glob(f"*{SUFFIX}"))
    return StoreInfo(
        folder=folder,
        upstream=meta["upstream"]["name"],
        kind=meta["kind"],
        dtype=meta["dtype"],
        precision=meta.get("precision", "no"),
        utterances=len({key for shard in shards for key in _keys(shard)}),
        num_bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        last_used=(folder / META).stat().st_mtime,
        current=meta.get("format") == FORMAT,
    )


def _keys(shard: Path) -> list[str]:
    """Of a shard without a readable header none; `verify_stores` names it."""
    try:
        return list(Shard(shard).keys())
    except SafetensorError:
        return []
