"""One file of a store: safetensors named by the hash of its own bytes, so that no damage stays unnoticed.

A flipped bit, a cut-off end or two files with each other's names: the bytes then no longer give the name. The header
names the store, so that a shard that was moved into another one is noticed too. XXH3 (128 bits) costs less than
reading the file: it is no defence against an attacker, who could as well write a store of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from undertone.common.files import atomic_path

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "int8": torch.int8}
SUFFIX = ".safetensors"
LARGEST_CODE = 127  # int8 codes are -127..127
_SCALE = "scale of "  # before a key: the tensor of its scales
_CHUNK = 2**22


def encode(states: Tensor, dtype: str) -> tuple[Tensor, ...]:
    """What is stored of an utterance's (L, T, D) states.

    int8 has one float32 scale for each layer and feature of the utterance, its largest value / 127: outlier features
    then cost the others nothing. What float16 cannot hold (beyond 65,504) is kept as bfloat16. Gives ((L, T, D) of
    `dtype`,), or ((L, T, D) int8, (L, 1, D) float32).
    """
    states = states.detach().cpu()
    if dtype == "int8":
        scale = (states.abs().amax(1, keepdim=True) / LARGEST_CODE).float()  # (L, 1, D)
        scale = scale.clamp(min=torch.finfo(torch.float32).tiny)
        return (states / scale).round().to(torch.int8).contiguous(), scale
    kind = DTYPES[dtype]
    if kind == torch.float16 and states.abs().max() > torch.finfo(torch.float16).max:
        kind = torch.bfloat16
    # Always a copy, of this thread: thousands of means as the upstream's threads allocated them, each between what they
    # free, keep that from being used again (0.4 MB a clip).
    return (states.to(kind, copy=True).contiguous(),)  # a slice of a padded batch is not contiguous


def write_shard(folder: Path, entries: Mapping[str, tuple[Tensor, ...]]) -> Path:
    """Write {key: encoded states} as one shard of the store in `folder`, whole or not at all."""
    tensors = {key: encoded[0] for key, encoded in entries.items()}
    tensors |= {_SCALE + key: encoded[1] for key, encoded in entries.items() if len(encoded) > 1}
    content = save(tensors, {"store": folder.name})
    shard = folder / f"{xxhash.xxh3_128_hexdigest(content)}{SUFFIX}"
    with atomic_path(shard) as draft:
        draft.write_bytes(content)
    return shard


class Shard:
    """An opened shard, memory-mapped.

    Raises:
        SafetensorError: its header cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._tensors = safe_open(path, framework="pt")
        self.nbytes = path.stat().st_size
        self._names = set(self._tensors.keys())

    def keys(self) -> Iterator[str]:
        """The keys of its entries."""
        return (name for name in self._names if not name.startswith(_SCALE))

    def get(self, key: str) -> Tensor:
        """(L, T, D) states in the stored dtype; those stored as int8 in float32."""
        states: Tensor = self._tensors.get_tensor(key)
        return states * self._tensors.get_tensor(_SCALE + key) if _SCALE + key in self._names else states


def find_damage(path: Path) -> str | None:
    """What is wrong with a shard, in words, or None: every byte of it is read.

    Raises:
        FileNotFoundError: there is no such file.
    """
    digest = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    if digest.hexdigest() != path.name.removesuffix(SUFFIX):
        return "its bytes are not those that were written"
    try:
        with safe_open(path, framework="pt") as tensors:
            home = (tensors.metadata() or {}).get("store")
    except SafetensorError as error:
        return str(error)
    return None if home == path.parent.name else "it is of another store"
