"""Presets: a module here holds a docstring (the paper, what is ours) and one SYSTEM, a dict of run settings."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from undertone.discovery import load_file, nearest


def available_systems() -> list[str]:
    """Names of the presets."""
    return sorted(info.name for info in pkgutil.iter_modules(__path__))


def load_system(name: str) -> dict[str, Any]:
    """The settings of a preset.

    Args:
        name: a module here, or a Python file of the user's such as `./my_system.py`.

    Raises:
        ValueError: no preset or file of that name, or a file without a SYSTEM.
    """
    if name.endswith(".py"):
        system = getattr(load_file(Path(name)), "SYSTEM", None)
        if not isinstance(system, dict):
            raise ValueError(f"{name} must define SYSTEM, a dict of settings such as {{'head': 'linear'}}.")
        return dict(system)
    known = available_systems()
    if name not in known:
        raise ValueError(f"Unknown system {name!r}.{nearest(name, known)} One of your own: a path, ./my_system.py.")
    return dict(importlib.import_module(f"{__name__}.{name}").SYSTEM)
