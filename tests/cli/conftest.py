"""Runs that several tests look at, each made once; nothing is written to the home of who runs the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from undertone.tests.cli.commands import TINY, undertone


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of the tests' own, where the default store and downloads would go."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all runs."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def trained(small_corpus: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`trained("seed=1")`: the folder of a tiny `undertone train` with these words, made once."""
    made: dict[tuple[str, ...], Path] = {}

    def train(*words: str, corpus: Path = small_corpus) -> Path:
        key = (str(corpus), *words)
        if key not in made:
            out = tmp_path_factory.mktemp("trained")
            outcome = undertone("train", corpus, "--out", out, f"store={store}", *TINY, *words)
            assert outcome.status == 0, outcome.err
            made[key] = out
        return made[key]

    return train


@pytest.fixture(scope="session")
def finished(small_corpus: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished `undertone crossval` of the small corpus."""
    out = tmp_path_factory.mktemp("finished") / "run"
    outcome = undertone("crossval", small_corpus, "--out", out, "--store", store, *TINY)
    assert outcome.status == 0, outcome.err
    return out
