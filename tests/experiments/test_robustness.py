"""A run's models on disturbed audio: clean is the run itself, the ratio is exact, the same seed the same noise."""

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
from undertone.experiments.robustness import KINDS, DisturbedSource, changes, robustness, robustness_table
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
    found = changes(16000, ["noise"], noise, [snr])
    assert list(found) == [("noise", f"white, {snr:g} dB"), ("noise", f"hums, {snr:g} dB")]
    for change in found.values():
        source = DisturbedSource(16000, change, seed=3)
        batch = source(utterances)
        for item, wave, length in zip(utterances, batch.samples, batch.lengths.tolist(), strict=True):
            speech = read_audio(item.path, 16000, item.start, item.end)
            added = (wave[:length] - speech).double()
            measured = 10 * math.log10(float(speech.double().square().mean() / added.square().mean()))
            assert length == len(speech) and abs(measured - snr) < 0.1
        assert torch.equal(source(utterances[2:3]).samples[0], batch.samples[2, : batch.lengths[2]])
        assert not torch.equal(DisturbedSource(16000, change, seed=4)(utterances).samples, batch.samples)


def test_every_kind_has_its_conditions_and_changes_the_audio() -> None:
    wave = torch.sin(2 * math.pi * 440 * torch.arange(16000) / 16000) / 4 + 0.01 * torch.randn(16000)
    found = changes(16000, list(KINDS))
    assert [kind for kind, _ in found] == ["noise"] * 4 + ["codec"] * 7 + ["band"] * 4 + ["gain"] * 4 + [
        "speed"
    ] * 4 + ["reverb"] * 3
    for (kind, name), change in found.items():
        changed = change(wave, torch.Generator().manual_seed(1))
        assert changed.isfinite().all() and changed.dtype == torch.float32, name
        assert len(changed) == len(wave) if kind != "speed" else abs(len(changed) * float(name[2:]) - 16000) < 200
        assert len(changed) != len(wave) or float((changed - wave).abs().max()) > 1e-3, name
    with pytest.raises(ValueError, match="There is no disturbance 'rain'. Choose from noise, codec, band"):
        changes(16000, ["rain"])


def test_clean_is_the_runs_own_score_and_noise_is_not(run: Path, noise: Path) -> None:
    own = json.loads((run / "results.json").read_text())
    kinds = ["noise", "speed"]
    tested = robustness(run, kinds, noise, [20.0, -20.0], device="cpu", display=Display(quiet=True))
    clean, *others = tested["conditions"]
    assert clean["kind"] == "clean" and clean["metrics"]["uar"] == pytest.approx(own["pooled"]["emotion"]["uar"])
    assert clean["per_gender"] == pytest.approx(
        {gender: own["per_gender"][gender]["emotion"]["uar"] for gender in ("female", "male")}
    )
    names = ["white, 20 dB", "white, -20 dB", "hums, 20 dB", "hums, -20 dB", "x 0.8", "x 0.9", "x 1.1", "x 1.25"]
    assert [one["name"] for one in others] == names
    loud = others[1]
    assert loud["metrics"]["uar"] < clean["metrics"]["uar"]
    assert loud["difference"] == pytest.approx(loud["metrics"]["uar"] - clean["metrics"]["uar"])
    assert loud["ci95"][0] < loud["difference"] < loud["ci95"][1]
    titles, header, rows = robustness_table(tested)
    assert (
        header == ["Condition", "UAR", "Difference", "95 % interval", "female", "male"]
        and "UAR of emotion" in titles[0]
    )
    assert rows[0] == ["clean", f"{100 * clean['metrics']['uar']:.1f}", "", "", *rows[0][4:]]
    assert rows[2][:2] == ["noise: white, -20 dB", f"{100 * loud['metrics']['uar']:.1f}"]


def test_the_command_puts_it_into_the_report(run: Path, tmp_path: Path) -> None:
    outcome = undertone("robustness", run, "--only", "noise,reverb", "--snr", "10", "--device", "cpu")
    assert outcome.status == 0 and "white, 10 dB" in outcome.out, outcome.err
    written = json.loads((run / "robustness.json").read_text())
    assert [one["name"] for one in written["conditions"]] == ["clean", "white, 10 dB", "0.3 s", "0.6 s", "1 s"]
    page = (run / "report.html").read_text()
    assert "<h2>Robustness</h2>" in page and "reverb: 0.6 s" in page
    assert "| noise: white, 10 dB |" in (run / "report.md").read_text()
    assert undertone("robustness", run, "--snr", "loud").fails_with("--snr takes numbers with commas", "'loud'")
    assert undertone("robustness", tmp_path).fails_with("is not finished", "crossval")
    assert undertone("robustness", run, "--only", "rain").fails_with("no disturbance 'rain'")
    assert undertone("robustness", run, "--noise", tmp_path / "none").fails_with("No noise in")
