"""One hash for everything that decides an upstream's hidden states."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
import xxhash
from torch import Tensor


def fingerprint(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hex sha256 of settings (JSON) and tensors: names, dtypes, shapes and bytes, whatever their order or device."""
    return _digest(hashlib.sha256(), settings, tensors)


def quick_digest(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hex XXH3 of the same, many times faster: it tells whether anything has changed, and is never stored."""
    return _digest(xxhash.xxh3_128(), settings, tensors)


def _digest(digest: Any, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return str(digest.hexdigest())
