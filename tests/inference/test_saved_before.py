"""Models that an earlier version saved are read, and predict what they did.

Those in `saved/` were trained on `synthetic` (4 speakers, 64 clips) and saved by the code of before there were several
upstreams: commit 7ce79ed, the parent of 8343c61. `attention` has the head of that name, a layer sum and layer norms on
a wav2vec 2.0 of 8 features, `logistic` what a solver fitted to means of mfcc. Their predictions.json is what that code
predicted for `waves`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from undertone import load_model
from undertone.downstream.model import UndertoneModel

SAVED = Path(__file__).parent / "saved"


def waves() -> list[np.ndarray]:
    """A tone that rises, and noise."""
    time = np.arange(24_000) / 16_000
    rising = 0.3 * np.sin(2 * np.pi * (150 + 400 * time) * time)
    return [rising, np.random.default_rng(0).standard_normal(12_000) / 10]


def flat(rows: list[dict[str, Any]]) -> list[float]:
    """All numbers of predictions, in the order of the names of tasks and classes."""
    tasks = ("emotion", "gender", "arousal")
    scores = [row[task]["scores"] if task != "arousal" else {task: row[task]} for row in rows for task in tasks]
    return [one[label] for one in scores for label in sorted(one)]


@pytest.mark.parametrize("name", ["attention", "logistic"])
def test_a_model_of_before_there_were_several_upstreams(name: str, tmp_path: Path) -> None:
    """Read from its folder, and from one that it is saved into now."""
    then = json.loads((SAVED / name / "predictions.json").read_text())
    sounds = [(wave, 16_000) for wave in waves()]
    model = load_model(SAVED / name, device="cpu")
    found = model.predict(sounds)
    assert [row["emotion"]["label"] for row in found] == [row["emotion"]["label"] for row in then]
    np.testing.assert_allclose(flat(found), flat(then), atol=1e-5)
    model.model.save_pretrained(tmp_path / "now")
    np.testing.assert_array_equal(flat(load_model(tmp_path / "now", device="cpu").predict(sounds)), flat(found))
    assert (
        isinstance(model.model, UndertoneModel) and model.model.config.trained_on["speakers"] == "F1 F2 M1 M2".split()
    )
