"""A run's models in noise: clean is the run itself, the ratio is exact, the same seed the same noise."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import soundfile
import torch

from undertone.audio.read import read_audio
from undertone.common.console import Display
from undertone.corpora.manifest import Manifest
from undertone.experiments.crossval import crossval
from undertone.experiments.noise_test import NoisySource, noise_table, noise_test
from undertone.tests.cli.commands import undertone
from undertone.training.settings import make_config


@pytest.fixture(scope="module")
def run(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("noise") / "run"
    words = [
        "head=linear",
        "tasks=emotion",
        "protocol=groups",
        "num_folds=2",
        "max_epochs=4",
        "batch_size=16",
        "lr=0.01",
    ]
    store = str(out.parent / "store")
    crossval(
        make_config({"corpus": str(small_corpus), "store": store, "device": "cpu"}, words), out, Display(quiet=True)
    )
    return out


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    folder = tmp_path / "hums"
    folder.mkdir()
    for hz in (50, 120):
        hum = torch.sin(2 * math.pi * hz * torch.arange(8000) / 16000)
        soundfile.write(folder / f"{hz}.wav", hum.numpy(), 16000)
    return folder


@pytest.mark.parametrize("snr", [20.0, 0.0])
def test_the_measured_ratio_is_the_one_asked_for(run: Path, noise: Path, snr: float) -> None:
    utterances = list(Manifest.load(run / "manifest"))[:4]
    noises = {path.name: read_audio(path, 16000) for path in noise.iterdir()}
    for kind in ({}, noises):
        source = NoisySource(16000, kind, snr, seed=3)
        batch = source(utterances)
        for item, wave, length in zip(utterances, batch.samples, batch.lengths.tolist(), strict=True):
            speech = read_audio(item.path, 16000, item.start, item.end)
            added = (wave[:length] - speech).double()
            found = 10 * math.log10(float(speech.double().square().mean() / added.square().mean()))
            assert length == len(speech) and abs(found - snr) < 0.1
        assert torch.equal(source(utterances[2:3]).samples[0], batch.samples[2, : batch.lengths[2]])
        assert not torch.equal(NoisySource(16000, kind, snr, seed=4)(utterances).samples, batch.samples)


def test_clean_is_the_runs_own_score_and_noise_is_not(run: Path, noise: Path) -> None:
    own = json.loads((run / "results.json").read_text())["pooled"]["emotion"]
    tested = noise_test(run, noise, [20.0, -20.0], device="cpu", display=Display(quiet=True))
    assert tested["scores"].keys() == {"white", "hums"}
    for scores in tested["scores"].values():
        assert list(scores) == ["clean", "20", "-20"]
        assert scores["clean"]["uar"] == pytest.approx(own["uar"]) and scores["clean"]["wa"] == pytest.approx(own["wa"])
    assert tested["scores"]["white"]["-20"]["uar"] < own["uar"]
    titles, header, rows = noise_table(tested)
    assert header == ["Noise", "clean", "20", "-20"] and [row[0] for row in rows] == ["white", "hums"]
    assert rows[0][1] == f"{100 * own['uar']:.1f}" and "UAR of emotion" in titles[0]


def test_the_command(run: Path, tmp_path: Path) -> None:
    outcome = undertone("noise-test", run, "--snr", "10", "--device", "cpu")
    assert outcome.status == 0 and "white" in outcome.out, outcome.err
    assert json.loads((run / "noise.json").read_text())["snrs"] == [10.0]
    assert undertone("noise-test", run, "--snr", "loud").fails_with("--snr takes numbers with commas", "'loud'")
    assert undertone("noise-test", tmp_path).fails_with("is not finished", "crossval")
    assert undertone("noise-test", run, "--noise", tmp_path / "none").fails_with("No noise in")
