"""Undertone: speech emotion recognition on self-supervised speech models.

>>> from undertone import load_model
>>> load_model("runs/emodb").predict(["call.wav"])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undertone.inference.predict import load_model as load_model
    from undertone.upstream import load_upstream as load_upstream

__version__ = "0.1.0"
__all__ = ["load_model", "load_upstream"]

_HOMES = {"load_model": "undertone.inference.predict", "load_upstream": "undertone.upstream"}


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `import undertone` does not pull in torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'undertone' has no attribute {name!r}")
