"""The train x test matrix of three small corpora, from the command to the page."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from undertone.common.console import Display
from undertone.corpora.synthetic import Synthetic
from undertone.experiments.crosscorpus import OTHERS, crosscorpus, crosscorpus_table
from undertone.report.crosscorpus_page import write_matrix
from undertone.report.report import write_report
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import results_table
from undertone.training.settings import make_config

QUIET = Display(quiet=True)
WORDS = ("upstream=mfcc", "head=ridge", "device=cpu", "tasks=emotion")
NAMES = ["north", "south", "west"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three corpora of 3 speakers, who are called alike; `west` has no neutral utterances."""
    folder, found = tmp_path_factory.mktemp("corpora"), []
    for seed, name in enumerate(NAMES):
        rows = list(Synthetic(seed=seed, num_speakers=3, per_emotion=1).rows(folder / name))
        path = folder / name / f"{name}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "speaker", "emotion"])
            kept = [row for row in rows if (name, row["emotion"]) != ("west", "neutral")]
            writer.writerows([row["path"], row["speaker"], row["emotion"]] for row in kept)
        found.append(str(path))
    return found


@pytest.fixture(scope="module")
def made(tables: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, dict[str, Any]]:
    out = tmp_path_factory.mktemp("matrix")
    config = make_config({"corpus": "+".join(tables), "store": str(out / "store")}, WORDS)
    found = crosscorpus(config, out / "runs", QUIET)
    assert found is not None
    return out / "runs", config, found


def uar(out: Path, run: str, test: str, train: str | None = None) -> float:
    """By hand, from the predictions."""
    found = Predictions.load(out / run / "predictions.parquet")
    rows = [n for n, name in enumerate(found.ids) if name.startswith(test) and train in (None, found.folds[n])]
    assert len(rows) == 9
    truth, guess = found.targets["emotion"], found.scores["emotion"].argmax(1)
    return float(balanced_accuracy_score(truth[rows], guess[rows]))


def test_every_cell_is_that_of_its_training_and_test_corpus(made: Any) -> None:
    out, _, found = made
    assert found["corpora"] == NAMES and list(found["cells"]) == [*NAMES, OTHERS]
    for test in NAMES:
        assert found["cells"][test][test]["value"] == pytest.approx(uar(out, "within", test))
        assert found["cells"][OTHERS][test]["value"] == pytest.approx(uar(out, "left-out", test))
        for train in (name for name in NAMES if name != test):
            assert found["cells"][train][test]["value"] == pytest.approx(uar(out, "across", test, train))
    cell = found["cells"]["north"]["west"]
    assert (cell["num"], cell["num_speakers"], cell["chance"]) == (9, 3, pytest.approx(1 / 3))
    assert json.loads((out / "crosscorpus.json").read_text()) == found


def test_the_table_says_what_it_is(made: Any) -> None:
    _, _, found = made
    titles, header, rows = crosscorpus_table(found)
    assert titles[0] == ("UAR of emotion (angry, happy, sad), train x test: upstream mfcc, head ridge. Chance 33.3.")
    prints = [found["results"][name]["split_fingerprint"] for name in ("within", "across", "corpus")]
    assert (
        titles[2] == "Split fingerprints: within {}, across {}, left-out {}.".format(*prints) and len(set(prints)) == 3
    )
    assert header == ["Train", "Test north", "Test south", "Test west"] and [row[0] for row in rows] == [*NAMES, OTHERS]
    assert rows[0][1].startswith(f"{100 * found['cells']['north']['north']['value']:.1f}")
    assert (
        "north: left out, not among the emotions angry, happy, sad: neutral 3."
        in found["results"]["within"]["warnings"]
    )


def test_the_page_and_the_picture(made: Any, tmp_path: Path) -> None:
    _, _, found = made
    page = write_matrix(found, tmp_path).read_text("utf-8")
    assert (tmp_path / "crosscorpus.png").read_bytes().startswith(b"\x89PNG")
    for row in crosscorpus_table(found)[2]:
        assert f"<th>{row[0]}</th>" in page and row[1].partition(" ")[0] in page
    assert "left out, not among the emotions" in page and found["results"]["across"]["split_fingerprint"] in page
    assert "<script" not in page and "http" not in page


def test_a_finished_matrix_is_not_made_again_and_its_runs_have_reports(made: Any) -> None:
    out, config, found = made
    before = {path: path.stat().st_mtime_ns for path in out.rglob("fold.json")}
    assert len(before) == 9 + 3 + 3 and crosscorpus(config, out, QUIET) == found
    assert {path: path.stat().st_mtime_ns for path in out.rglob("fold.json")} == before
    page = write_report(out / "left-out").read_text("utf-8")
    results = json.loads((out / "left-out" / "results.json").read_text())
    assert "<h2>Corpora</h2>" in page and list(results["per_corpus"]) == NAMES
    values = [results["per_corpus"][name]["scores"]["emotion"]["uar"] for name in NAMES]
    assert np.allclose(values, [found["cells"][OTHERS][name]["value"] for name in NAMES])
    assert any(line.startswith("Split fingerprint ") for line in results_table(results)[0])


@pytest.mark.parametrize(
    ("corpus", "words", "message"),
    [
        ("emodb", (), "needs two corpora or more, got emodb"),
        ("emodb+nemo", ("protocol=speaker",), "protocols of its own: leave protocol and num_folds out"),
    ],
)
def test_refusals(corpus: str, words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        crosscorpus(make_config({"corpus": corpus}, [*WORDS, *words]), tmp_path, QUIET)
