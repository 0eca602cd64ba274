from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from undertone.common.console import Display
from undertone.common.files import read_json, write_json
from undertone.experiments.crossval import train
from undertone.experiments.rerun import HEADER, rerun, rerun_table
from undertone.scoring.predictions import Predictions
from undertone.training.settings import make_config

QUIET = Display(quiet=True)


@pytest.fixture(scope="module")
def run(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rerun")
    words = ["max_epochs=2", "batch_size=8", "head.hidden_size=8", f"store={folder / 'store'}", "seed=3"]
    config = make_config({"corpus": str(small_corpus)}, words)
    fold = "F2"
    train(config, folder / "run", fold, QUIET)
    return folder / "run"


def test_the_same_config_gives_the_same_predictions(run: Path) -> None:
    again, results = rerun(run, display=QUIET)
    assert again == run.with_name("run-rerun")
    assert results is not None
    assert [fold["name"] for fold in results["folds"]] == ["F2"]
    assert read_json(again / "config.json") == read_json(run / "config.json")
    titles, header, rows = rerun_table(run, again)
    assert titles == [f"{run} and {again}: all 16 predictions are equal, bit for bit"]
    assert header == HEADER
    assert {row[-1] for row in rows} == {"equal"}
    assert rows[0][:2] == ["emotion", "UAR"] and rows[0][2] == rows[0][3]


def test_differences_are_said(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    results = read_json(other / "results.json")
    results["pooled"]["emotion"]["uar"] += 0.021
    results["pooled"]["emotion"]["wa"] += 1e-6
    results["pooled"]["emotion"]["ece"] = None
    results["versions"]["torch"] = "0.1"
    results["manifest_hash"] = "other"
    write_json(other / "results.json", results)
    predictions = Predictions.load(other / "predictions.parquet")
    predictions.scores["emotion"][3, 1] += 0.25
    predictions.save(other / "predictions.parquet")
    titles, _, rows = rerun_table(run, other)
    assert titles[0].endswith("16 predictions differ by up to 2.5e-01")
    assert titles[1].startswith("THE CORPUS HAS CHANGED: ")
    assert titles[2].startswith("Versions: torch ") and titles[2].endswith(" -> 0.1.")
    assert [row[-1] for row in rows[:4]] == ["+2.1", "+1.0e-06", "equal", "–"]
    predictions.select(predictions.scores["emotion"][:, 0] >= 0).select(slice(1, None)).save(
        other / "predictions.parquet"
    )
    assert rerun_table(run, other)[0][0].endswith("different utterances or tasks were predicted")


def test_what_cannot_be_made_again_is_a_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not finished: results.json, predictions.parquet missing"):
        rerun(tmp_path, display=QUIET)
    with pytest.raises(ValueError, match="is the run itself"):
        rerun(run, run, display=QUIET)
    other = shutil.copytree(run, tmp_path / "other")
    write_json(other / "config.json", read_json(run / "config.json") | {"learnin_rate": 1})
    with pytest.raises(ValueError, match="does not fit this version of undertone"):
        rerun(other, display=QUIET)
    (other / "config.json").unlink()
    with pytest.raises(ValueError, match=r"is not finished: config\.json missing"):
        rerun(other, display=QUIET)


def test_a_cross_validation_over_one_split_is_one_again(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shutil.copytree(run, tmp_path / "whole")
    results = read_json(whole / "results.json")
    results["cost"]["refit_steps"] = 5
    write_json(whole / "results.json", results)
    monkeypatch.setattr("undertone.experiments.rerun.crossval", lambda config, out, display: {"made": str(out)})
    assert rerun(whole, display=QUIET) == (tmp_path / "whole-rerun", {"made": str(tmp_path / "whole-rerun")})
