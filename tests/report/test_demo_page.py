"""The demo: the answers of the model itself, as HTML, and read off the page in a browser."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from undertone.corpora.synthetic import Synthetic
from undertone.inference.predict import Predictor, load_model
from undertone.report.demo_page import HINT, answer, make_demo, serve
from undertone.tests.report.test_report import Page


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """fbank and a head with random weights."""
    import torch

    from undertone.downstream.config import UndertoneConfig
    from undertone.downstream.model import UndertoneModel
    from undertone.downstream.task import Task
    from undertone.upstream import load_upstream

    torch.manual_seed(1)
    upstream = load_upstream("fbank")
    tasks = [
        Task("emotion", "classification", ("angry", "<i>happy</i>", "sad")),
        Task("gender", "classification", ("female", "male")),
        Task("arousal", "regression", ("arousal",)),
    ]
    config = UndertoneConfig(
        upstream=upstream.spec(), upstream_hash=upstream.weights_hash(), tasks=[task.to_dict() for task in tasks]
    )
    folder = tmp_path_factory.mktemp("demo") / "model"
    UndertoneModel(config, upstream).save_pretrained(folder)
    return load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = Synthetic(seed=1, num_speakers=2, per_emotion=1).rows(tmp_path_factory.mktemp("voice") / "corpus")
    return Path(next(iter(rows))["path"])


def test_the_answer_is_the_models(predictor: Predictor, voice: Path) -> None:
    (row,) = predictor.predict([voice])
    page = Page(answer(predictor, str(voice)))
    assert page.open == [] and not {"script", "i>happy"} & {tag for tag, _ in page.tags}
    for task in ("emotion", "gender"):
        said = page.texts[page.texts.index(task) :]
        assert said.index(row[task]["label"]) < 6
        for label, score in row[task]["scores"].items():
            assert page.has(label) and page.has(f"{100 * score:.1f}")
    assert page.has(f"{row['arousal']:.2f}") and page.has("over time")


def test_what_cannot_be_answered_is_said(predictor: Predictor, tmp_path: Path) -> None:
    assert answer(predictor, None) == HINT
    (tmp_path / "notes.wav").write_text("no sound")
    assert "not readable as audio" in answer(predictor, str(tmp_path / "notes.wav"))


def test_no_speech_and_unsure_are_said(predictor: Predictor, voice: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    careful = Predictor(predictor.model, any_sound=False)
    page = Page(answer(careful, str(tmp_path / "silence.wav")))
    assert page.has("No answer: silence.") and not page.has("emotion")
    assert "unsure" not in answer(predictor, str(voice)).rpartition("</style>")[2]
    calibration, config = {"temperature": 1.0, "unsure_below": 1.0}, predictor.model.config
    try:
        config.calibration = {"emotion": calibration}
        assert Page(answer(predictor, str(voice))).texts.count("unsure") == 1
    finally:
        config.calibration = {}


def test_a_long_recording_has_a_timeline(predictor: Predictor, voice: Path, tmp_path: Path) -> None:
    samples, rate = soundfile.read(voice, dtype="float32")
    soundfile.write(tmp_path / "long.wav", np.resize(samples, 32 * rate), rate)
    page = Page(answer(predictor, str(tmp_path / "long.wav")))
    (image,) = [values["src"] for tag, values in page.tags if tag == "img"]
    assert page.has("timeline of windows") and image is not None
    assert base64.b64decode(image.partition("base64,")[2]).startswith(b"\x89PNG")
    assert not any(tag == "img" for tag, _ in Page(answer(predictor, str(voice))).tags)


@pytest.mark.slow
def test_a_browser_uploads_a_recording_and_reads_the_answer(
    predictor: Predictor, voice: Path, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio", reason="needs the extra demo")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (row,) = predictor.predict([voice])
    app = make_demo(predictor, "my_model")
    address = serve(app)
    try:
        assert address.startswith("http://127.0.0.1:")
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.set_input_files("input[type=file]", voice)
        page.wait_for_selector(".undertone .said", timeout=60_000)
        said = page.locator(".undertone .said").all_inner_texts()
        bars = page.locator(".undertone .value").all_inner_texts()
        page.close()
    finally:
        app.close()
    assert said == [row["emotion"]["label"], row["gender"]["label"], f"{row['arousal']:.2f}"]
    scores = [*row["emotion"]["scores"].values(), *row["gender"]["scores"].values()]
    assert bars == [f"{100 * score:.1f}" for score in scores]
    outside = [url for url in asked if not re.match(rf"{re.escape(address)}|data:|blob:", url)]
    assert not outside, "the page loads nothing from elsewhere"
