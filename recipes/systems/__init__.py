"""Presets: a module here holds a docstring (the paper, what is ours) and one SYSTEM, a dict of run settings."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from undertone.discovery import nearest


def available_systems() -> list[str]:
    """Names of the presets."""
    return sorted(info.name for info in pkgutil.iter_modules(__path__))


def load_system(name: str) -> dict[str, Any]:
    """The settings of a preset.

    Raises:
        ValueError: no preset of that name.
    """
    known = available_systems()
    if name not in known:
        raise ValueError(f"Unknown system {name!r}.{nearest(name, known)}")
    return dict(importlib.import_module(f"{__name__}.{name}").SYSTEM)
