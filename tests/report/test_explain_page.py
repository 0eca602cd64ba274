"""The page and the picture of an explanation: whole, with what was found, whatever the model has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from undertone.downstream.task import Task
from undertone.inference.explain import Explanation
from undertone.report.explain_page import write_explanation
from undertone.scoring.plots import spectrogram
from undertone.tests.report.test_report import Page

EMOTION = Task("emotion", "classification", ("<b>angry</b>", "sad"))


def explanation(**changed: object) -> Explanation:
    time = np.arange(16000, dtype=np.float32) / 16000
    attributions = np.zeros(100)
    attributions[42:48] = 0.5
    weights = (np.ones(50) / 50).tolist()
    given = {
        "file": "a & b.wav",
        "samples": np.sin(2 * np.pi * 1000 * time).astype(np.float32),
        "sample_rate": 16000,
        "prediction": {
            "file": "a & b.wav",
            "duration": 1.0,
            "emotion": {"label": "<b>angry</b>", "scores": {"<b>angry</b>": 0.75, "sad": 0.25}},
            "arousal": 0.31,
            "attention": {"times": [0.0] * 50, "weights": weights},
        },
        "task": EMOTION,
        "target": "<b>angry</b>",
        "attributions": attributions,
        "reason": "",
        "score": 1.25,
        "gap": 0.001,
        "layer_weights": np.array([0.25, 0.75], dtype=np.float32),
    }
    return Explanation(**{**given, **changed})  # type: ignore[arg-type]


def test_the_page_shows_what_was_found(tmp_path: Path) -> None:
    html, png = write_explanation(explanation(), tmp_path / "found")
    page = Page(html.read_text("utf-8"))
    assert page.open == [] and not {"script", "link"} & {tag for tag, _ in page.tags}
    assert page.has("a & b.wav") and page.has("<b>angry</b>") and page.has("75.0") and page.has("0.31")
    first = page.texts.index("0.4 – 0.5")
    assert page.texts[first + 1 : first + 6].count("+3.000") == 1  # the six frames from 0.42 s
    assert html.read_text("utf-8").count("<svg ") == 3
    assert png.read_bytes().startswith(b"\x89PNG")
    assert write_explanation(explanation(), tmp_path / "again")[0].read_bytes() == html.read_bytes()


def test_what_the_model_has_not_is_said_or_left_out(tmp_path: Path) -> None:
    prediction = {"file": "x.wav", "duration": 1.0, "emotion": {"label": "sad", "scores": {"sad": 1.0}}}
    found = explanation(attributions=None, reason="It has no frames.", layer_weights=None, prediction=prediction)
    html, _ = write_explanation(found, tmp_path / "found")
    text = html.read_text("utf-8")
    assert "No attribution: It has no frames." in text and text.count("<svg ") == 2
    assert "Layer weights" not in text and "Attention:" not in text


def test_what_is_no_speech_is_said(tmp_path: Path) -> None:
    html, _ = write_explanation(explanation(no_speech="silence"), tmp_path / "found")
    assert "No answer: silence. What follows explains the scores all the same." in html.read_text("utf-8")


def test_the_spectrogram_is_loudest_where_the_tone_is() -> None:
    level = spectrogram(explanation().samples, 16000)
    assert level.shape[0] == 201 and level.max() == 0
    assert level[:, 50].argmax() == pytest.approx(1000 / 40, abs=1)  # 40 Hz a row
