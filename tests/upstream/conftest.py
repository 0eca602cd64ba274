from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from undertone.upstream.hf.random_weights import save_random


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random model by its architecture's name, written once."""
    root = tmp_path_factory.mktemp("tiny")

    def folder(architecture: str) -> Path:
        path = root / architecture
        return path if path.is_dir() else save_random(architecture, path)

    return folder
