"""Presets: a module here holds a docstring (the paper, what is ours) and one SYSTEM, a dict of run settings.

It may hold VARIANTS too, {name: words of the command line}: `--system li2019:small` is SYSTEM with these words, such as
`head.hidden_size=32`, applied. And ABLATION, the rows of its `undertone ablate` table.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from undertone.common.discovery import load_file, nearest
from undertone.training.settings import assign


def available_systems() -> list[str]:
    """Names of the presets."""
    return sorted(info.name for info in pkgutil.iter_modules(__path__))


def system_module(name: str) -> ModuleType:
    """A module here, or one of the user's: `./my_system.py`, `my_pkg.my_system`; what follows a colon is ignored.

    A ValueError says that there is none of that name, or that it has no SYSTEM.
    """
    name, _, _ = name.partition(":")
    known = available_systems()
    if name in known:
        return importlib.import_module(f"{__name__}.{name}")
    if "." not in name:
        own = "One of your own: ./my_system.py, or my_package.my_system."
        raise ValueError(f"Unknown system {name!r}.{nearest(name, known)} {own}")
    try:
        module = load_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except (ImportError, TypeError) as error:  # a TypeError of `.x`
        raise ValueError(f"Cannot load the system {name!r}: {error}. Expected my_package.my_system.") from error
    if not isinstance(getattr(module, "SYSTEM", None), dict):
        raise ValueError(f"{name} must define SYSTEM, a dict of settings such as {{'head': 'linear'}}.")
    return module


def load_system(name: str) -> dict[str, Any]:
    """The settings of a preset, with variants after colons: `crnn`, `crnn:small`, `li2019:ssl:small`, `./my_system.py`.

    Raises as `system_module` does, and for an unknown variant.
    """
    module, (_, *chosen) = system_module(name), name.split(":")
    settings, variants = dict(module.SYSTEM), getattr(module, "VARIANTS", {})
    for variant in chosen:
        if variant not in variants:
            raise ValueError(f"System {name!r} has no variant {variant!r}.{nearest(variant, variants)}")
        for word in variants[variant]:
            assign(settings, word)
    return settings


@dataclass(frozen=True)
class Row:
    """One row of an ablation.

    Attributes:
        name: what the row is, and the folder of its run.
        words: words of the command line that make it from the system; None: no run of ours can be this row.
        published: what a paper reports, with its corpus and how sure it is; "" where nothing was found.
        needs: without which the row would be another one under its name: `unlabelled` (speech), `values` or `classes`
            to predict, `video` of some clips.
        variants: {a variant of the system: further words where the user names it}, such as a size.
        streams: the names of those that the row has of the system's several upstreams, whichever these are; empty: all.
    """

    name: str
    words: tuple[str, ...] | None = ()
    published: str = ""
    needs: Literal["", "unlabelled", "values", "classes", "video"] = ""
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    streams: tuple[str, ...] = ()
