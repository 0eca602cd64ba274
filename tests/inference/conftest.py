"""A small model with random weights, saved, and sound files to predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from undertone.downstream.config import UndertoneConfig
from undertone.downstream.model import UndertoneModel
from undertone.downstream.task import Task
from undertone.inference.predict import Predictor, load_model
from undertone.upstream import load_upstream

torch.set_num_threads(1)
TASKS = [
    Task("emotion", "classification", ("angry", "happy", "sad")),
    Task("gender", "classification", ("female", "male")),
    Task("arousal", "regression", ("arousal",)),
]
SECONDS = {"long.wav": 2.5, "short.wav": 0.4, "tiny.wav": 0.012, "middle.flac": 1.1, "twin.wav": 1.1}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    upstream = load_upstream("fbank")
    config = UndertoneConfig(
        upstream=upstream.spec(),
        upstream_hash=upstream.weights_hash(),
        tasks=[task.to_dict() for task in TASKS],
    )
    folder = tmp_path_factory.mktemp("model") / "model"
    UndertoneModel(config, upstream).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def predictor(model_folder: Path) -> Predictor:
    return load_model(model_folder, device="cpu")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Sounds of 12 ms to 2.5 s, of two rates, one of them in stereo."""
    folder, random = tmp_path_factory.mktemp("sound"), np.random.default_rng(0)
    for number, (name, seconds) in enumerate(SECONDS.items()):
        rate, channels = (16000, 1) if number % 2 == 0 else (44100, 2)
        pitch = np.sin(2 * np.pi * (100 + 60 * number) * np.arange(int(seconds * rate)) / rate)
        noise = random.standard_normal((len(pitch), channels))
        soundfile.write(folder / name, 0.3 * pitch[:, None] + 0.02 * noise, rate)
    return [folder / name for name in SECONDS]
