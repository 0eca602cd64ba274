"""Cross-validation of a head on means: stacked as it is, or with no memory for it one training after the other."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from undertone.common.console import Display
from undertone.common.files import read_json
from undertone.experiments.crossval import crossval, train
from undertone.publish.card import make_card
from undertone.scoring.predictions import Predictions
from undertone.tests.cli.commands import start
from undertone.training.settings import make_config
from undertone.training.stack.stacked_trainer import StackedTrainer

WORDS = ("head=linear", "head.hidden_size=8", "batch_size=8", "max_epochs=3", "tasks=emotion,arousal")
QUIET = Display(quiet=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"store={tmp_path_factory.mktemp('store')}"


def run(corpus: Path, out: Path, *words: str, display: Display = QUIET) -> dict:
    results = crossval(make_config({"corpus": str(corpus)}, [*WORDS, *words]), out, display)
    assert results is not None
    return results


SWEEP = ("sweep.lr=1e-3,1e-4", "seeds=2", "sweep.label_smoothing=0,0.1", "protocol=groups", "num_folds=2")


@pytest.fixture(scope="module")
def stacked(small_corpus: Path, store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stacked") / "run"
    run(small_corpus, out, store, *SWEEP)
    return out


def same_keys(first: object, second: object) -> None:
    """Two JSON values of one form."""
    if isinstance(first, dict) and isinstance(second, dict):
        assert list(first) == list(second)
        for key in first:
            same_keys(first[key], second[key])
    elif isinstance(first, list) and isinstance(second, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            same_keys(one, other)
    else:
        assert type(first) is type(second)


def test_the_files_are_those_of_one_by_one(stacked: Path, small_corpus: Path, store: str, tmp_path: Path) -> None:
    one = tmp_path / "one"
    run(small_corpus, one, store, *SWEEP, "memory=0")
    names = [{str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} for out in (stacked, one)]
    assert names[0] == names[1] and len(names[0]) > 50
    first, second = read_json(stacked / "results.json"), read_json(one / "results.json")
    same_keys(first, second)
    scores = [[one.pop("mean") for one in results["sweep"]["dev_scores"]] for results in (first, second)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5) and first["sweep"] == second["sweep"]
    for path in sorted(stacked.rglob("*/fold.json")):
        record, expected = read_json(path), read_json(one / path.relative_to(stacked))
        assert record["best_step"] == expected["best_step"]
        assert record["dev_score"] == pytest.approx(expected["dev_score"], abs=1e-5)
        assert record["layer_weights"] == pytest.approx(expected["layer_weights"], abs=1e-5)
    for path in sorted(stacked.rglob("predictions.parquet")):
        scores = [Predictions.load(out / path.relative_to(stacked)).scores for out in (stacked, one)]
        for task in ("emotion", "arousal"):
            np.testing.assert_allclose(scores[0][task], scores[1][task], atol=1e-5)


@pytest.mark.slow
def test_several_threads_give_the_same_bytes(small_corpus: Path, store: str, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            run(small_corpus, tmp_path / str(number), store)
    finally:
        torch.set_num_threads(threads)
    paths = sorted((tmp_path / "1").rglob("model.safetensors"))
    assert len(paths) == 5
    for path in paths:
        assert path.read_bytes() == (tmp_path / "3" / path.relative_to(tmp_path / "1")).read_bytes()


def test_one_fold_alone_is_the_fold_of_the_cross_validation(
    stacked: Path, small_corpus: Path, store: str, tmp_path: Path
) -> None:
    config = make_config({"corpus": str(small_corpus)}, [*WORDS, store, *SWEEP])
    train(config, tmp_path / "run", "group1", QUIET)
    name = Path("folds/group1/predictions.parquet")
    assert (tmp_path / "run" / name).read_bytes() == (stacked / name).read_bytes()


def test_a_fold_alone_and_the_model_of_all_speakers_have_one_thread(
    small_corpus: Path, store: str, tmp_path: Path, monkeypatch
) -> None:
    """On several an update takes as long, on busy cores several times as long, and its last digits may be others."""
    fit, threads, seen = StackedTrainer.fit, torch.get_num_threads(), []
    monkeypatch.setattr(StackedTrainer, "fit", lambda *args: seen.append(torch.get_num_threads()) or fit(*args))
    torch.set_num_threads(2)
    try:
        train(make_config({"corpus": str(small_corpus)}, [*WORDS, store]), tmp_path / "fold", None, QUIET)
        run(small_corpus, tmp_path / "run", store)  # its folds are in processes of their own, where they can be forked
        assert set(seen) == {1} and len(seen) >= 2 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bytes(small_corpus: Path, store: str, tmp_path: Path) -> None:
    words = (*WORDS, store, "max_epochs=60", "patience=60", "device=cpu", "sweep.lr=1e-3,1e-4")
    command = ("crossval", small_corpus, "--out", tmp_path / "killed", *words)
    process = start(*command)
    end = time.monotonic() + 90
    while not list((tmp_path / "killed").glob("folds/*/*/tried.json")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "killed" / "results.json").exists()
    run(small_corpus, tmp_path / "killed", *words[5:])
    run(small_corpus, tmp_path / "whole", *words[5:])
    paths = sorted((tmp_path / "whole").rglob("model.safetensors"))
    assert len(paths) == 4 + 4 + 1  # of each fold, of its chosen trial, of all speakers
    for path in paths:
        assert path.read_bytes() == (tmp_path / "killed" / path.relative_to(tmp_path / "whole")).read_bytes()


def test_another_head_on_means_is_trained_one_by_one(
    small_corpus: Path, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = tmp_path / "own.py"
    head.write_text("from undertone.downstream.heads.linear import LinearHead\n\n\nclass Own(LinearHead):\n    pass\n")
    results = run(small_corpus, tmp_path / "run", store, f"head={head}", "max_epochs=1", display=Display())
    assert "fold F1 (1/4)" in capsys.readouterr().err and len(results["folds"]) == 4


def test_on_an_upstream_in_bf16_they_train_side_by_side_in_float32(
    small_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("upstream=tiny", "mixed_precision=bf16", f"store={tmp_path / 'store'}", "max_epochs=2")
    found = {}
    for name, more in (("stacked", ()), ("one", ("memory=0",))):
        run(small_corpus, tmp_path / name, *words, *more, display=Display())
        found[name] = "fold F1 (1/4)" in capsys.readouterr().err
        (path,) = (tmp_path / name).glob("folds/F1/predictions.parquet")
        found[f"{name} scores"] = Predictions.load(path).scores["emotion"]
    assert (found["stacked"], found["one"]) == (False, True)
    np.testing.assert_allclose(found["stacked scores"], found["one scores"], atol=1e-5)
    results = read_json(tmp_path / "one" / "results.json")
    (note,) = results["warnings"]
    assert note.startswith("The scores are of mixed_precision=bf16. Published ones should be of float32")
    card = make_card(tmp_path / "one" / "model", results, "user/name")
    assert "with mixed_precision=bf16; the model predicts in float32." in card
