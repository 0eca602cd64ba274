"""Shared by the tests of presets."""

from __future__ import annotations

from pathlib import Path

import pytest

from undertone.upstream.hf.random_weights import save_random


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all runs."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def tiny_upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny wav2vec 2.0 of random weights."""
    return save_random("tiny-wav2vec2", tmp_path_factory.mktemp("tiny") / "tiny-wav2vec2")
