"""The scripts a user starts with, each as a process of its own: synthetic, EmoDB with a push, quickstart."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from undertone.corpora.synthetic import Synthetic
from undertone.tests.publish.loopback import TOKEN, LoopbackHub
from undertone.upstream.hf.random_weights import save_random

ROOT = Path(__file__).parents[2]
TINY = ("head.hidden_size=8", "max_epochs=1", "device=cpu")
SPEAKERS = {"F1": "08", "M1": "03", "F2": "09", "M2": "10"}
EMOTIONS = {"angry": "W", "happy": "F", "neutral": "N", "sad": "T"}


def run(home: Path, *command: object, **changes: str) -> str:
    """What a command prints; its home is a folder of the test's."""
    environment = os.environ | {"HOME": str(home), "OMP_NUM_THREADS": "1"} | changes
    done = subprocess.run([*map(str, command)], env=environment, cwd=home, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_synthetic(tmp_path: Path) -> None:
    words = ("--upstream", "mfcc", "--out", tmp_path / "run", "head=linear", "corpus.per_emotion=2", *TINY)
    out = run(tmp_path, sys.executable, ROOT / "recipes" / "synthetic.py", *words)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    uar = results["pooled"]["emotion"]["uar"]
    assert f"UAR {uar:.3f}" in out and f"report {tmp_path / 'run' / 'report.html'}" in out
    assert (tmp_path / "run" / "report.html").is_file()
    assert (results["upstream"], results["head"], len(results["folds"])) == ("mfcc", "linear", 4)
    assert len(list((tmp_path / "run" / "corpus").rglob("*.wav"))) == results["num_utterances"]


@pytest.fixture
def emodb(tmp_path: Path) -> Path:
    """Speech of four made-up speakers under the names of EmoDB's files."""
    root = tmp_path / "EmoDB"
    (root / "wav").mkdir(parents=True)
    for row in Synthetic(seed=2, num_speakers=4, per_emotion=2).rows(tmp_path / "made"):
        take = "ab"[int(row["path"].stem[-2:]) - 1]
        name = f"{SPEAKERS[row['speaker']]}a01{EMOTIONS[row['emotion']]}{take}.wav"
        shutil.move(row["path"], root / "wav" / name)
    return root


@pytest.mark.slow
def test_emodb_trains_and_pushes(emodb: Path, tmp_path: Path) -> None:
    upstream = save_random("tiny-wavlm", tmp_path / "tiny-wavlm")
    words = ("--root", emodb, "--upstream", upstream, "--out", tmp_path / "run", "--push", "tester/emodb", *TINY)
    with LoopbackHub() as hub:
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf")}
        settings |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        out = run(tmp_path, sys.executable, ROOT / "recipes" / "emodb.py", *words, **settings)
        assert f"pushed {hub.endpoint}/tester/emodb" in out
        files = hub.files("tester/emodb")
        assert len(hub.commits("tester/emodb")) == 1
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [fold["name"] for fold in results["folds"]] == ["03", "08", "09", "10"]
    assert set(results["pooled"]) == {"emotion", "gender"} and results["num_utterances"] == 32
    assert results["upstream_weights"] == "random"
    assert files["model.safetensors"] == (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    card = files["README.md"].decode()
    assert "emodb" in card and f"{100 * results['pooled']['emotion']['uar']:.1f}" in card
    assert str(tmp_path) not in card


@pytest.mark.slow
def test_quickstart_learns(tmp_path: Path) -> None:
    """Nothing but the command, as a process of its own."""
    command = (sys.executable, "-c", "from undertone.cli import main; main()", "quickstart", "--out", tmp_path / "run")
    out = run(tmp_path, *command, OMP_NUM_THREADS=str(torch.get_num_threads()))
    results, predicted = quickstart_results(tmp_path / "run", out)
    low, _ = results["ci95"]["emotion"]["uar"]
    assert low > 0.25
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r'"label": "(\w+)", "scores": {"\1": ([\d.]+), ...}, "unsure": (\w+)', readme)
    assert shown is not None and (shown[1], shown[3]) == (predicted["emotion"]["label"], "False")
    assert predicted["emotion"]["scores"][shown[1]] == pytest.approx(float(shown[2]), abs=0.02)
    assert predicted["emotion"]["unsure"] is False


def quickstart_results(folder: Path, out: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """It makes the corpus, trains, reports, predicts, and says what to type next: results.json, and the prediction."""
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    assert results["chance"]["emotion"]["uar"] == 0.25
    assert results["speaker_independent"] is True and "Speaker-independent" in out
    for name in ("results.json", "predictions.parquet", "report.html", "model/model.safetensors"):
        assert (folder / name).is_file(), name
    assert f"undertone predict {folder} FILE.wav" in out
    predicted = json.loads(out[out.index("{", out.index("\npredicted ")) :])
    assert predicted["emotion"]["label"] in EMOTIONS and Path(predicted["file"]).is_file()
    assert re.search(r"\npredicted .*\.wav\n", out)
    return results, predicted
