"""A cross-validation learns temperature and threshold on dev, reports them on test, and its model applies them."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import soundfile

from undertone.downstream.model import UndertoneModel
from undertone.inference.predict import load_model
from undertone.scoring.calibration import scaled
from undertone.scoring.metrics import ece
from undertone.scoring.predictions import Predictions
from undertone.tests.cli.commands import undertone


def test_results_have_the_calibration_on_test_with_what_dev_gave(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    folds = [json.loads(path.read_text()) for path in sorted(finished.glob("folds/*/fold.json"))]
    assert {fold["calibration"]["emotion"]["num_dev"] for fold in folds} == {16}
    found = results["calibration"]["emotion"]
    assert found["temperature"] == pytest.approx(
        median(fold["calibration"]["emotion"]["temperature"] for fold in folds)
    )
    table = Predictions.load(finished / "predictions.parquet")
    by_name = {fold["name"]: fold["calibration"]["emotion"]["temperature"] for fold in folds}
    after = np.stack(
        [scaled(row[None], by_name[name])[0] for row, name in zip(table.scores["emotion"], table.folds, strict=True)]
    )
    assert found["ece_before"] == pytest.approx(results["pooled"]["emotion"]["ece"], abs=1e-6)
    assert found["ece_after"] == pytest.approx(ece(table.targets["emotion"], after), abs=1e-6)
    assert undertone("report", finished).status == 0
    assert "With the temperature that fits dev" in (finished / "report.html").read_text()


def test_the_model_of_all_speakers_is_calibrated_and_says_when_it_is_unsure(finished: Path, tmp_path: Path) -> None:
    model = UndertoneModel.from_pretrained(finished / "model")
    calibration = model.config.calibration["emotion"]
    assert model.config.trained_on["clip_seconds"]["longest"] >= model.config.trained_on["clip_seconds"]["median"] > 0
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    (row,) = load_model(finished, device="cpu", any_sound=True).predict(tmp_path / "a.wav")
    sure = max(row["emotion"]["scores"].values()) >= calibration["unsure_below"]
    assert row["emotion"]["unsure"] is not sure
    plain = tmp_path / "model"
    model.downstream.temperatures, model.config.calibration = {}, {}
    model.save_pretrained(plain)  # as an earlier version saved it
    (before,) = load_model(plain, device="cpu", any_sound=True).predict(tmp_path / "a.wav")
    assert "unsure" not in before["emotion"] and before["emotion"]["label"] == row["emotion"]["label"]
    expected = scaled(np.array([[*before["emotion"]["scores"].values()]]), calibration["temperature"])[0]
    np.testing.assert_allclose([*row["emotion"]["scores"].values()], expected, atol=1e-5)
