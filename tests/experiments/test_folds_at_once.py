"""Folds side by side and one after the other: of a fitted head in threads, of a trained one in processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from undertone.common.console import Advance, Display
from undertone.common.files import read_json
from undertone.common.processes import can_fork
from undertone.experiments import folds_at_once
from undertone.experiments.crossval import crossval
from undertone.experiments.open_run import open_run
from undertone.training.config import RunConfig
from undertone.training.settings import make_config


class Listening(Display):
    """Remembers the titles of the bars; raises KeyboardInterrupt when the bar of the folds reaches `until`."""

    def __init__(self, until: int | None = None) -> None:
        super().__init__(quiet=True)
        self.titles: list[str] = []
        self.until = until

    @contextmanager
    def bar(self, title: str) -> Iterator[Advance]:
        self.titles.append(title)

        def advance(done: float, total: float, note: str) -> None:
            if "at once" in title and self.until is not None and done >= self.until:
                raise KeyboardInterrupt

        yield advance


FITTED = ("head=logistic", "sweep.head.C=0.01,0.1")
UNTIMED = {"seconds": 0}
TRAINED = ("head=attention", "head.hidden_size=16", "max_epochs=20", "patience=20", "sweep.learning_rate=1e-3,1e-2")


@pytest.fixture(autouse=True)
def little_memory_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds_at_once, "PROCESS_BYTES", 2**20)


needs_forks = pytest.mark.skipif(not can_fork(), reason="elsewhere folds that are trained follow each other")


@pytest.fixture(
    scope="module",
    params=[pytest.param(FITTED, id="threads"), pytest.param(TRAINED, id="processes", marks=needs_forks)],
)
def config(request: pytest.FixtureRequest, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    words = (*request.param, "tasks=emotion,arousal", "augment.copies=1", "augment.speed=0.1", "device=cpu")
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
    for name in ("model/model.safetensors", "predictions.parquet", "fold.json"):
        paths = sorted(one.glob(f"folds/*/{name}"))
        assert len(paths) == 4
        for path in paths:
            there = other / path.relative_to(one)
            if name == "fold.json":
                assert read_json(path) | UNTIMED == read_json(there) | UNTIMED
            else:
                assert path.read_bytes() == there.read_bytes()


def test_side_by_side_gives_the_same_bytes(config: RunConfig, alone: Path, tmp_path: Path) -> None:
    display = Listening()
    with threads(3):
        crossval(config, tmp_path / "run", display)
    assert any(title.startswith("4 folds, 3 at once") for title in display.titles)
    same_bytes(alone, tmp_path / "run")


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    config: RunConfig, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with threads(2), pytest.raises(KeyboardInterrupt):
        crossval(config, out, Listening(until=1))
    done, started = (len(list(out.glob(f"folds/*/{where}"))) for where in ("fold.json", "*/checkpoints/*"))
    assert (done if config.head == "logistic" else started) >= 1
    assert done < 4 and not (out / "results.json").exists()
    with threads(2):
        crossval(config, out, Listening())
    same_bytes(alone, out)


def test_the_last_fold_of_a_trained_head_has_one_thread_too(config: RunConfig, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(alone, out)
    for path in (out / "results.json", *sorted(out.glob("folds/*/fold.json"))[-1:]):
        path.unlink()
    display = Listening()
    with threads(3):
        crossval(config, out, display)
    assert any(title.startswith("fold M2") for title in display.titles)
    same_bytes(alone, out)


def test_a_fold_that_fails_ends_the_run_with_its_error(config: RunConfig, tmp_path: Path) -> None:
    blocked = tmp_path / "run" / "folds"
    blocked.mkdir(parents=True)
    names = [fold.name for fold in open_run(config, tmp_path / "names", Listening()).folds]
    (blocked / names[1]).write_text("a file where the folder of the fold should be")
    with threads(2), pytest.raises(OSError, match=names[1]):
        crossval(config, tmp_path / "run", Listening())
    assert not (tmp_path / "run" / "results.json").exists()


@needs_forks
def test_without_memory_for_two_folds_follow_each_other_and_give_the_same_bytes(
    small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["head=attention", "max_steps=1", "tasks=emotion", "device=cpu", f"store={tmp_path / 'store'}"]
    for name, needed in (("two", folds_at_once.PROCESS_BYTES), ("one", 2**60)):
        monkeypatch.setattr(folds_at_once, "PROCESS_BYTES", needed)
        display = Listening()
        with threads(2):
            crossval(make_config({"corpus": str(small_corpus)}, words), tmp_path / name, display)
        assert any(f"4 folds, {'2' if name == 'two' else '1'} at once" in title for title in display.titles)
    same_bytes(tmp_path / "two", tmp_path / "one")


def test_normalised_layers_need_a_batch_of_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(**settings: object) -> int:
        return folds_at_once.processes_in_memory(RunConfig(corpus="made", batch_size=32, **settings), 10**7)

    monkeypatch.setattr(folds_at_once, "PROCESS_BYTES", 2 * 2**30)
    assert of() > of(layer_norm=True)
