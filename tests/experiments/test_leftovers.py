"""Folders of a run: of any fold's name, and without what killed processes left."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from undertone.common.hub_client import find_model
from undertone.experiments.crossval import crossval
from undertone.experiments.run_folder import RunFolder
from undertone.scoring.predictions import Predictions
from undertone.training.config import RunConfig

LONG = "Maria " * 60 + "Smith"


def renamed(table: Path, to: Path, names: dict[str, str]) -> Path:
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with to.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"speaker": names.get(row["speaker"], row["speaker"])} for row in rows)
    return to


@pytest.fixture(scope="module")
def odd(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    """A run on speakers called `..`, `.`, a name of 360 bytes and M2."""
    folder = tmp_path_factory.mktemp("odd")
    table = renamed(small_corpus, folder / "odd.csv", {"F1": "..", "F2": LONG, "M1": "."})
    config = RunConfig(corpus=str(table), head="linear", store=str(folder / "store"), max_epochs=1, device="cpu")
    crossval(config, folder / "run")
    return config, folder / "run"


def test_a_fold_of_any_name_lies_in_the_folder_of_folds(odd: tuple[RunConfig, Path]) -> None:
    config, run = odd
    assert not (run / "fold.json").exists() and not (run.parent / "fold.json").exists()
    names = RunFolder.finished(run).fold_names
    assert sorted(names) == sorted(["..", ".", LONG, "M2"])
    folders = [RunFolder(run).fold(name) for name in names]
    assert len(set(folders)) == 4 and all(folder.resolve().parent == (run / "folds").resolve() for folder in folders)
    for name in names:
        assert find_model(run, fold=name) == RunFolder(run).fold(name) / "model"
    with pytest.raises(ValueError, match=r"Folds with a model: \., \.\., M2, Maria Maria"):
        find_model(run, fold="F9")


def test_a_resumed_run_counts_each_fold_once_and_sweeps_what_killed_processes_left(odd: tuple[RunConfig, Path]) -> None:
    config, run = odd
    before = json.loads((run / "results.json").read_text())
    fold = RunFolder(run).fold("..")
    left = [fold / "checkpoints" / "step-1", fold / "best", fold / "both", fold / "layers"]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "weights").write_text("x")
    (run / "results.json").unlink()
    crossval(config, run)
    after = json.loads((run / "results.json").read_text())
    assert after["pooled"] == before["pooled"] and len(Predictions.load(run / "predictions.parquet")) == 64
    assert not any(folder.exists() for folder in left) and not list(run.rglob("*.tmp"))


def test_a_folder_that_holds_another_fold_is_not_taken_for_done(odd: tuple[RunConfig, Path]) -> None:
    """As on a file system to which `F1` and `f1` are one name."""
    config, run = odd
    record = RunFolder(run).fold("M2") / "fold.json"
    text = record.read_text()
    record.write_text(text.replace('"name": "M2"', '"name": "m2"'))
    (run / "results.json").unlink()
    try:
        with pytest.raises(ValueError, match="holds the fold 'm2', and 'M2' would overwrite it"):
            crossval(config, run)
    finally:
        record.write_text(text)


def test_a_run_of_an_earlier_version_is_read_and_resumed(odd: tuple[RunConfig, Path]) -> None:
    config, run = odd
    for record in run.glob("folds/*/fold.json"):
        values = json.loads(record.read_text())
        del values["name"]
        record.write_text(json.dumps(values))
    (run / "results.json").unlink(missing_ok=True)
    results = crossval(config, run)
    assert results is not None and len(results["folds"]) == 4
    with pytest.raises(ValueError, match="Folds with a model: .*M2"):
        find_model(run, fold="F9")
