"""Shared by the tests of presets."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from undertone.training.config import RunConfig
from undertone.upstream.hf.random_weights import save_random


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all runs."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def tiny_upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny wav2vec 2.0 of random weights."""
    return save_random("tiny-wav2vec2", tmp_path_factory.mktemp("tiny") / "tiny-wav2vec2")


@pytest.fixture(scope="session")
def tiny_resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small ResNet of random weights."""
    return save_random("small-resnet", tmp_path_factory.mktemp("resnet") / "small-resnet")


@pytest.fixture(scope="session")
def like_emodb(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with EmoDB's labels, emotion and gender, and none of dimensions or over time; 16 clips."""
    table = tmp_path_factory.mktemp("emodb") / "clips.csv"
    with small_corpus.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].endswith("_01.wav")]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "speaker", "gender", "emotion"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return table


@pytest.fixture(scope="session")
def offline(tiny_upstream: Path) -> Callable[[RunConfig], RunConfig]:
    """A config whose models of the Hub are a tiny one of random weights, of which the last layer is the second."""

    def replaced(config: RunConfig) -> RunConfig:
        upstream = re.sub(r"(?:facebook|microsoft)/[\w.-]+", str(tiny_upstream), config.upstream)
        streams = {
            name: own.model_copy(update={"layers": 2 if isinstance(own.layers, int) else own.layers})
            for name, own in config.streams.items()
        }
        layers = 2 if isinstance(config.layers, int) else config.layers
        return config.model_copy(update={"upstream": upstream, "layers": layers, "streams": streams})

    return replaced
