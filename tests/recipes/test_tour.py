"""What `undertone quickstart` makes, in one epoch, and everything that can be done with its model."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoModelForAudioClassification, pipeline

from undertone import load_model
from undertone.downstream.model import UndertoneModel
from undertone.experiments import crossval
from undertone.hub.pipeline import TASK
from undertone.tests.cli.commands import undertone
from undertone.tests.recipes.test_recipes import quickstart_results


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run, and what the command printed."""
    folder, whole, short = tmp_path_factory.mktemp("quickstart") / "run", crossval.crossval, {"max_epochs": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossval, "crossval", lambda config, *rest: whole(config.model_copy(update=short), *rest))
        outcome = undertone("quickstart", "--out", folder)
    assert outcome.status == 0, outcome.err
    return folder, outcome.out


@pytest.fixture(scope="module")
def run(quickstart: tuple[Path, str]) -> Path:
    return quickstart[0]


@pytest.fixture(scope="module")
def clips(run: Path) -> list[Path]:
    return sorted((run / "corpus").rglob("*.wav"))


@pytest.fixture(scope="module")
def call(clips: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds in two channels: six clips one after another, and the same in reverse order."""
    samples = [soundfile.read(path, dtype="float32")[0] for path in clips[:6]]
    left, right = np.concatenate(samples), np.concatenate(samples[::-1])
    path = tmp_path_factory.mktemp("call") / "call.wav"
    soundfile.write(path, np.stack([left, right], 1), 16_000)
    return path


def test_0_quickstart(quickstart: tuple[Path, str]) -> None:
    quickstart_results(*quickstart)


def test_1_long_recordings(run: Path, call: Path, tmp_path: Path) -> None:
    windows = undertone("predict", run, call, "--window", "2", "--hop", "1", "--channels", "split", "--csv")
    rows = list(csv.DictReader(io.StringIO(windows.out)))
    assert windows.status == 0 and {row["channel"] for row in rows} == {"1", "2"} and rows[2]["start"] == "1.000000"
    part = soundfile.read(call, dtype="float32")[0][16_000:48_000, 0]
    soundfile.write(tmp_path / "part.wav", part, 16_000, subtype="FLOAT")
    (alone,) = json.loads(undertone("predict", run, tmp_path / "part.wav", "--any-sound", "--json").out)
    found = next(row for row in rows if (row["channel"], row["start"]) == ("1", "1.000000"))
    assert float(found["emotion_angry"]) == pytest.approx(alone["emotion"]["scores"]["angry"], abs=1e-4)
    for ending in (".png", ".html", ".jsonl"):
        out = tmp_path / f"timeline{ending}"
        assert undertone("predict", run, call, "--window", "2", "--out", out).status == 0 and out.stat().st_size > 100


def test_2_no_speech_and_unsure(run: Path, clips: list[Path], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    found = json.loads(undertone("predict", run, tmp_path / "silence.wav", clips[0], "--speech-only", "--json").out)
    assert "no_speech" in found[0] and "emotion" not in found[0]
    calibration = UndertoneModel.from_pretrained(run / "model").config.calibration["emotion"]
    assert calibration["temperature"] > 0 and 0 <= calibration["unsure_below"] <= 1
    (known,) = json.loads(undertone("predict", run, clips[0], "--json").out)
    assert known["emotion"]["unsure"] == (max(known["emotion"]["scores"].values()) < calibration["unsure_below"])


def test_3_and_4_scripts_and_python_agree(run: Path, clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    out = tmp_path / "rows.parquet"
    outcome = undertone("predict", run, clips[0].parent, tmp_path / "bad.wav", "--out", out)
    assert outcome.status == 1 and "bad.wav" in outcome.err and "1 of" in outcome.err
    import pandas

    rows = pandas.read_parquet(out)
    model = load_model(run, device="cpu")
    found = model.predict(clips[:2])
    wave, rate = soundfile.read(clips[1], dtype="float32")
    (again,) = model.predict([{"array": wave, "sampling_rate": rate}])
    by_name = {Path(name).name: label for name, label in zip(rows["file"], rows["emotion"], strict=True)}
    assert [by_name[path.name] for path in clips[:2]] == [one["emotion"]["label"] for one in found]
    assert again["emotion"]["scores"] == pytest.approx(found[1]["emotion"]["scores"], abs=1e-5)


def test_5_evaluated_and_compared(run: Path, tmp_path: Path) -> None:
    words = ("evaluate", run, run / "manifest", "--out", tmp_path / "again", "--device", "cpu")
    outcome = undertone(*words)
    assert outcome.status == 0 and "SPEAKER-DEPENDENT" in outcome.out, outcome.err
    compared = undertone("compare", run, tmp_path / "again")
    assert compared.status == 0 and "95 %" in compared.out, compared.err


def test_6_in_transformers(run: Path, clips: list[Path]) -> None:
    model = AutoModelForAudioClassification.from_pretrained(run / "model", output_hidden_states=True)
    wave = torch.from_numpy(soundfile.read(clips[0], dtype="float32")[0])[None]
    output = model(wave)
    (found,) = load_model(run, device="cpu").predict([clips[0]])
    angry = float(output.logits.detach().softmax(-1)[0, model.config.label2id["angry"]])
    assert len(output.hidden_states) == 7  # of `tiny`, layer 0 included
    answer = pipeline(TASK, model=str(run / "model"), trust_remote_code=False)(
        {"raw": wave[0].numpy(), "sampling_rate": 16_000}
    )
    assert answer["emotion"]["scores"]["angry"] == pytest.approx(found["emotion"]["scores"]["angry"], abs=1e-5)
    assert angry == pytest.approx(found["emotion"]["scores"]["angry"], abs=1e-5)
    with pytest.raises(ValueError, match="run/model"):
        AutoModelForAudioClassification.from_pretrained(run)


def test_7_published(run: Path, tmp_path: Path) -> None:
    outcome = undertone("push", run, "user/name", "--dry-run")
    assert outcome.status == 0 and "model.safetensors" in outcome.out and "README.md" in outcome.out
    if importlib.util.find_spec("onnx") is not None:
        exported = undertone("export", run, "--to", "onnx", "--out", tmp_path / "onnx")
        assert exported.status == 0 and (tmp_path / "onnx" / "predict.py").is_file(), exported.err


def test_8_live(run: Path, call: Path) -> None:
    model = load_model(run, device="cpu", any_sound=True)
    samples = soundfile.read(call, dtype="float32")[0][:, 0]
    stream = model.stream(16_000, window=2.0, hop=1.0)
    rows: list[Any] = list(stream.run(samples[start : start + 1600] for start in range(0, len(samples), 1600)))
    mono = call.with_name("mono.wav")
    soundfile.write(mono, samples, 16_000, subtype="FLOAT")
    windows = list(model.predict_long(mono, window=2.0, hop=1.0))
    assert len(rows) >= 5
    for live, known in zip(rows, windows, strict=True):
        assert (live["start"], live["end"]) == (known["start"], known["end"])
        assert live["emotion"]["scores"] == pytest.approx(known["emotion"]["scores"], abs=1e-5)


def test_9_explained(run: Path, clips: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("captum")
    outcome = undertone("explain", run, clips[0], "--out", tmp_path / "why")
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "why.html").stat().st_size > 1000 and (tmp_path / "why.png").stat().st_size > 1000


def test_10_shown_in_a_browser(run: Path, clips: list[Path]) -> None:
    from undertone.report.demo_page import answer

    page = answer(load_model(run, device="cpu"), str(clips[0]))
    (row,) = load_model(run, device="cpu").predict([clips[0]])
    assert "emotion" in page and "<svg" in page
    assert all(f"{100 * score:.1f}" in page for score in row["emotion"]["scores"].values())


def test_11_the_swapped_arguments_are_recognised(run: Path, clips: list[Path]) -> None:
    outcome = undertone("predict", clips[0], run)
    assert outcome.status == 2 and f"undertone predict {run} {clips[0]}" in outcome.err
    assert undertone("--version").out.startswith("undertone ")


def test_12_reported_and_disturbed(run: Path) -> None:
    outcome = undertone("robustness", run, "--only", "gain", "--device", "cpu")
    assert outcome.status == 0 and (run / "robustness.json").is_file(), outcome.err
    assert "gain: -20 dB" in (run / "report.html").read_text()
