"""The resolved config in a run's folder."""

from __future__ import annotations

import json
from pathlib import Path

from undertone.files import read_record, write_json
from undertone.training.config import RunConfig


def save_config(config: RunConfig, path: Path) -> None:
    """Write the resolved config as JSON; `undertone crossval --config FILE` reads it back."""
    write_json(path, json.loads(config.model_dump_json()))


def check_same_run(config: RunConfig, path: Path) -> None:
    """Refuse to continue a run under another config than the one it was started with.

    Raises:
        ValueError: the settings that differ, and what to do.
    """
    if not path.is_file():
        return
    before, now = read_record(path), json.loads(config.model_dump_json())
    where_only = {"store", "store_budget", "memory", "device", "log_with"}
    changed = [key for key in now if before.get(key) != now[key] and key not in where_only]
    if changed:
        listing = ", ".join(f"{key} was {before.get(key)!r}, now {now[key]!r}" for key in changed)
        raise ValueError(f"{path.parent} holds a run with other settings: {listing}. Choose another --out.")
