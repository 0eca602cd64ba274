"""SUPERB's protocol on a made-up IEMOCAP: its split and ours, each named in the results; the rates that are swept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from undertone.recipes.systems import load_system
from undertone.tests.cli.commands import undertone
from undertone.training.settings import make_config

CODES = ("neu", "hap", "exc", "ang", "sad")


@pytest.fixture(scope="module")
def iemocap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of a woman and a man in each of the five sessions."""
    root, generator = tmp_path_factory.mktemp("IEMOCAP"), np.random.default_rng(0)
    for session in range(1, 6):
        dialog = f"Ses0{session}F_impro01"
        lines = []
        for number in range(20):
            turn = f"{dialog}_{'FM'[number % 2]}{number // 2:03}"
            path = root / f"Session{session}" / "sentences" / "wav" / dialog / f"{turn}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, generator.uniform(-0.3, 0.3, 4000), 16000)
            lines.append(f"[6.2901 - 8.2357]\t{turn}\t{CODES[number // 2 % 5]}\t[2.5000, 2.5000, 2.5000]\n")
        labels = root / f"Session{session}" / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        labels.parent.mkdir(parents=True)
        labels.write_text("% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n" + "\n".join(lines))
    return root


@pytest.mark.parametrize(
    ("system", "protocol", "sentence", "train_and_dev"),
    [
        ("superb", "session", "train, dev and test of a fold share no speaker", (60, 20)),
        ("superb:split", "superb", "Speaker-independent test; dev shares speakers with train.", (64, 16)),
    ],
)
def test_both_splits_are_named(
    system: str, protocol: str, sentence: str, train_and_dev: tuple[int, int], iemocap: Path, tmp_path: Path
) -> None:
    words = ("upstream=mfcc", f"store={tmp_path / 'store'}", "max_steps=6", "eval_every=2", "device=cpu")
    out = tmp_path / "run"
    outcome = undertone("crossval", "iemocap", "--root", iemocap, "--system", system, "--out", out, *words)
    assert outcome.status == 0, outcome.err
    assert sentence in outcome.out and f"protocol {protocol}, 5 folds" in outcome.out
    results = json.loads((out / "results.json").read_text())
    assert (results["protocol"], results["speaker_independent"]) == (protocol, True)
    assert results["sweep"]["values"] == {"learning_rate": [1e-2, 1e-3, 1e-4, 1e-5, 1e-6]}
    for fold in results["folds"]:
        assert (fold["num_train"], fold["num_dev"], fold["num_test"]) == (*train_and_dev, 20)
        assert len(fold["trials"]) == 5


def test_a_rate_that_is_given_wins_over_the_presets_sweep() -> None:
    preset = load_system("superb")
    alone = make_config({"corpus": "iemocap"}, ["lr=1e-4"], preset=preset)
    assert (alone.sweep, alone.learning_rate, alone.max_steps) == ({}, 1e-4, 30_000)
    assert make_config({"corpus": "iemocap", "learning_rate": 1e-5}, preset=preset).sweep == {}
    others = make_config({"corpus": "iemocap"}, ["sweep.lr=1e-1,1e-7", "weight_decay=0.1"], preset=preset)
    assert others.sweep == {"learning_rate": (1e-1, 1e-7)}
    assert "learning_rate" in load_system("superb")["sweep"], "the preset itself is left as it is"
