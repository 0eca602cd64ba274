"""Hidden states on disk: what a frozen upstream says of an utterance is computed once."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from undertone.files import atomic_path, write_json
from undertone.upstream.base import Upstream

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
KINDS = ("frames", "mean")
SHARD_BYTES = 32 * 2**20
SHARD_SECONDS = 30.0  # a killed extraction loses no more than this
STALE_SECONDS = 24 * 3600.0  # a draft older than this was left by a killed process


class Store:
    """The hidden states of one upstream with fixed settings, in a folder of its own under `root`.

    The folder is named by a hash of the upstream's fingerprint, kind and dtype, so that other weights, settings or
    versions never meet. Shards are safetensors files, written beside and renamed; their headers are the only index, so
    that none can disagree with them. Several processes may add to one store at once.

    Args:
        root: folder of all stores.
        upstream: whose hidden states these are.
        kind: `frames`, (L, T, D) an utterance, or `mean`, (L, 1, D) over its frames, always float32.
        dtype: of stored frames; an utterance that float16 cannot hold is kept as bfloat16.

    Raises:
        ValueError: unknown kind or dtype, or a damaged shard.
    """

    def __init__(
        self, root: Path, upstream: Upstream, kind: Literal["frames", "mean"] = "frames", dtype: str = "float16"
    ) -> None:
        if kind not in KINDS or dtype not in DTYPES:
            raise ValueError(
                f"A store's kind is one of {', '.join(KINDS)} and its dtype one of {', '.join(DTYPES)}; "
                f"got {kind!r} and {dtype!r}."
            )
        self.kind, self.dtype = kind, "float32" if kind == "mean" else dtype
        settings = {"fingerprint": upstream.fingerprint(), "kind": self.kind, "dtype": self.dtype}
        self.folder = Path(root) / hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self._shards: dict[str, Path] = {}  # key -> shard
        self._known: set[Path] = set()
        self._open: dict[Path, Any] = {}  # memory-mapped shards
        if not (self.folder / "meta.json").is_file():
            write_json(self.folder / "meta.json", settings | _describe(upstream))
        self._remove_stale()
        self._scan()

    def __contains__(self, key: str) -> bool:
        return key in self._shards

    def __len__(self) -> int:
        return len(self._shards)

    def __getstate__(self) -> dict[str, Any]:
        """Without the open shards, so that a worker process can be given the store."""
        return self.__dict__ | {"_open": {}}

    def get(self, key: str) -> Tensor:
        """(L, T, D) frames or (L, 1, D) mean in the stored dtype.

        Raises:
            KeyError: no such entry.
        """
        shard = self._shards[key]
        if shard not in self._open:
            self._open[shard] = safe_open(shard, framework="pt")
        return self._open[shard].get_tensor(key)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The distinct `keys` that are not stored yet, in order; entries that another process has added count."""
        self._scan()
        return [key for key in dict.fromkeys(keys) if key not in self._shards]

    def add(self, entries: Iterable[tuple[str, Tensor]]) -> None:
        """Store (key, (L, T, D) or (L, 1, D) states) as they come; if `entries` raises, what came before is kept."""
        pending: dict[str, Tensor] = {}
        size, since = 0, time.monotonic()  # bytes, and when `pending` was last empty
        try:
            for key, states in entries:
                pending[key] = self._encode(states)
                size += pending[key].nbytes
                if size >= SHARD_BYTES or time.monotonic() - since >= SHARD_SECONDS:
                    self._write(pending)
                    pending, size, since = {}, 0, time.monotonic()
        finally:
            if pending:
                self._write(pending)

    def _encode(self, states: Tensor) -> Tensor:
        states = states.detach().cpu()
        dtype = DTYPES[self.dtype]
        if dtype == torch.float16 and states.abs().max() > torch.finfo(torch.float16).max:
            dtype = torch.bfloat16
        return states.to(dtype).contiguous()  # a slice of a padded batch is not

    def _write(self, tensors: dict[str, Tensor]) -> None:
        shard = self.folder / f"{uuid.uuid4().hex}.safetensors"
        try:
            with atomic_path(shard) as draft:
                save_file(tensors, draft)
        except SafetensorError as error:
            raise OSError(
                f"Cannot write {shard}: {error}. Make room and run again; earlier shards are kept."
            ) from error
        self._known.add(shard)
        self._shards.update(dict.fromkeys(tensors, shard))

    def _scan(self) -> None:
        """Read the headers of shards not seen before."""
        for shard in sorted(set(self.folder.glob("*.safetensors")) - self._known):
            for key in _keys(shard):
                self._shards.setdefault(key, shard)
            self._known.add(shard)

    def _remove_stale(self) -> None:
        for draft in self.folder.glob(".*.tmp"):
            if time.time() - draft.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(draft, ignore_errors=True)


def _keys(shard: Path) -> Iterator[str]:
    try:
        with safe_open(shard, framework="pt") as tensors:
            yield from tensors.keys()
    except SafetensorError as error:
        raise ValueError(
            f"{shard} is damaged ({error}). Remove it and run again: its entries are made anew."
        ) from error


def _describe(upstream: Upstream) -> dict[str, Any]:
    """What a person wants to know of a store; nothing reads it back."""
    about = {key: upstream.spec().get(key) for key in ("kind", "revision", "commit", "options", "do_normalize")}
    return {
        "upstream": {"name": upstream.name} | {key: value for key, value in about.items() if value is not None},
        "sample_rate": upstream.sample_rate,
        "num_layers": upstream.num_layers,
        "hidden_size": upstream.hidden_size,
        "random_weights": upstream.random_weights,
    }
