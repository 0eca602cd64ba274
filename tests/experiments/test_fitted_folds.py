"""Folds of a fitted head, side by side in threads and one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from undertone.common.console import Advance, Display
from undertone.common.files import read_json
from undertone.experiments.crossval import crossval
from undertone.experiments.open_run import open_run
from undertone.training.config import RunConfig
from undertone.training.settings import make_config


class Listening(Display):
    """Remembers the titles of the bars; raises KeyboardInterrupt when the bar of the folds reaches a fold."""

    def __init__(self, until: int | None = None) -> None:
        super().__init__(quiet=True)
        self.titles: list[str] = []
        self.until = until

    @contextmanager
    def bar(self, title: str) -> Iterator[Advance]:
        self.titles.append(title)

        def advance(done: float, total: float, note: str) -> None:
            if "at once" in title and done == self.until:
                raise KeyboardInterrupt

        yield advance


@pytest.fixture(scope="module")
def config(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    words = ("head=logistic", "tasks=emotion,arousal", "sweep.head.C=0.01,0.1", "augment.copies=1", "augment.speed=0.1")
    store = f"store={tmp_path_factory.mktemp('store')}"
    return make_config({"corpus": str(small_corpus), "upstream": "fbank"}, [*words, store])


@pytest.fixture(scope="module")
def alone(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with one fold after the other."""
    display, out = Listening(), tmp_path_factory.mktemp("alone") / "run"
    with threads(1):
        crossval(config, out, display)
    assert not any("at once" in title for title in display.titles)
    return out


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
        assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(before)


def same_bytes(one: Path, other: Path) -> None:
    for pattern, number in (("model.safetensors", 5), ("predictions.parquet", 5), ("fold.json", 4)):
        paths = sorted(one.rglob(pattern))
        assert len(paths) == number
        for path in paths:
            there = other / path.relative_to(one)
            if pattern == "fold.json":
                assert read_json(path) | {"seconds": 0} == read_json(there) | {"seconds": 0}
            else:
                assert path.read_bytes() == there.read_bytes()


def test_side_by_side_gives_the_same_bytes(config: RunConfig, alone: Path, tmp_path: Path) -> None:
    display = Listening()
    with threads(3):
        crossval(config, tmp_path / "run", display)
    assert "4 folds, 3 at once" in display.titles
    same_bytes(alone, tmp_path / "run")


def test_an_interrupted_run_keeps_its_folds_and_ends_with_the_same_bytes(
    config: RunConfig, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with threads(2), pytest.raises(KeyboardInterrupt):
        crossval(config, out, Listening(until=1))
    assert 1 <= len(list(out.rglob("fold.json"))) < 4 and not (out / "results.json").exists()
    crossval(config, out, Listening())
    same_bytes(alone, out)


def test_a_fold_that_fails_ends_the_run_with_its_error(config: RunConfig, tmp_path: Path) -> None:
    blocked = tmp_path / "run" / "folds"
    blocked.mkdir(parents=True)
    names = [fold.name for fold in open_run(config, tmp_path / "names", Listening()).folds]
    (blocked / names[1]).write_text("a file where the folder of the fold should be")
    with threads(2), pytest.raises(OSError, match=names[1]):
        crossval(config, tmp_path / "run", Listening())
    assert not (tmp_path / "run" / "results.json").exists()
