"""Scripts of benchmarks/ as modules."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from undertone.common.discovery import load_file

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], Any]:
    """Load benchmarks/NAME.py, for one thread."""

    def load(name: str) -> Any:
        torch.set_num_threads(1)
        sys.path.insert(0, str(FOLDER))  # where a script finds those beside it
        try:
            return load_file(FOLDER / f"{name}.py")
        finally:
            sys.path.pop(0)

    return load
