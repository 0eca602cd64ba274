"""Heads that a solver fits, from the command line: selection on dev, the scaler, the refit, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from undertone.audio.read import read_audio
from undertone.corpora.manifest import Manifest
from undertone.tests.cli.commands import undertone
from undertone.tests.cli.runs import fold, results, weights
from undertone.training.predictions import Predictions
from undertone.upstream import WaveBatch, load_upstream

WORDS = ("--upstream", "functionals", "--head", "svm", "device=cpu")
SPEAKERS = ("F1", "F2", "M1", "M2")


@pytest.fixture(scope="module")
def features(small_corpus: Path, store: Path, tmp_path_factory: pytest.TempPathFactory):
    """speaker -> (features (N, D), emotions, ids), made without the trainer."""
    out = tmp_path_factory.mktemp("plain") / "run"
    assert undertone("train", small_corpus, "--out", out, "--store", store, *WORDS).status == 0
    upstream, found = load_upstream("functionals"), {}
    for item in Manifest.load(out / "manifest"):
        states = upstream(WaveBatch.collate([read_audio(item.path, 16_000)], 16_000)).states
        found.setdefault(item.speaker, []).append((states.flatten().numpy(), item.emotion, item.id))
    return {speaker: tuple(map(np.array, zip(*rows, strict=True))) for speaker, rows in found.items()}


def run(small_corpus: Path, store: Path, out: Path, *words: str) -> Path:
    outcome = undertone("train", small_corpus, "--out", out, "--store", store, *WORDS, "--fold", "F1", *words)
    assert outcome.status == 0, outcome.err
    return out


def expected(features, train: list[str], C: float) -> dict[str, str]:
    """id -> the emotion that scikit-learn predicts for speaker F1."""
    rows, labels = (np.concatenate([features[speaker][part] for speaker in train]) for part in (0, 1))
    scaler = StandardScaler().fit(rows.astype(float))
    model = LinearSVC(C=C, random_state=0, max_iter=100_000).fit(scaler.transform(rows.astype(float)), labels)
    return dict(zip(features["F1"][2], model.predict(scaler.transform(features["F1"][0])), strict=True))


def predicted(out: Path) -> dict[str, str]:
    found = Predictions.load(out / "predictions.parquet")
    labels = found.tasks[0].labels
    return {name: labels[row.argmax()] for name, row in zip(found.ids, found.scores["emotion"], strict=True)}


def test_refit_on_dev_fits_again_on_train_and_dev(small_corpus: Path, store: Path, tmp_path: Path, features) -> None:
    """Predictions of a fold are scikit-learn's, from the training speakers, or from all but the tested one."""
    plain = run(small_corpus, store, tmp_path / "plain", "head.C=0.001")
    again = run(small_corpus, store, tmp_path / "again", "head.C=0.001", "refit_on_dev=true")
    assert predicted(again) == expected(features, ["F2", "M1", "M2"], 0.001)
    pairs = [expected(features, [s for s in SPEAKERS[1:] if s != dev], 0.001) for dev in SPEAKERS[1:]]
    assert predicted(plain) in pairs
    assert fold(plain)["dev_score"] == fold(again)["dev_score"]  # dev is scored before it is learned from
    own, others = weights(plain), weights(again)
    assert any((own[name] != others[name]).any() for name in own)
    assert (own["downstream.head.mean"] != others["downstream.head.mean"]).any()


def test_dev_chooses_C_and_the_model_needs_no_scikit_learn(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    tried = {C: fold(run(small_corpus, store, tmp_path / str(C), f"head.C={C}"))["dev_score"] for C in (1e-8, 0.01)}
    out = run(small_corpus, store, tmp_path / "both", "--sweep", "head.C=1e-8,0.01")
    assert fold(out)["chosen"] == {"head.C": max(tried, key=tried.__getitem__)}
    assert [trial["dev_score"] for trial in fold(out)["trials"]] == list(tried.values())
    clip = next(small_corpus.parent.rglob("*.wav"))
    code = (
        "import sys; from undertone import load_model\n"
        f"print(load_model({str(out)!r}).predict([{str(clip)!r}])[0]['emotion'])\n"
        "assert not {'sklearn', 'datasets', 'evaluate'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_whole_crossval_by_the_preset(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    words = ("--system", "functionals", "--store", store, "--out", tmp_path / "run", "device=cpu")
    outcome = undertone("crossval", small_corpus, *words)
    assert outcome.status == 0, outcome.err
    found = results(tmp_path / "run")
    assert found["pooled"]["emotion"]["uar"] > 0.4 and set(found["pooled"]) == {"emotion", "gender"}
    assert (found["hidden_states"], len(found["folds"])) == ("mean", 4)


@pytest.mark.parametrize("word", ["mode=lora", "adversarial=speaker", "label_smoothing=0.1", "focal_gamma=1"])
def test_what_needs_gradients_is_refused(small_corpus: Path, tmp_path: Path, word: str) -> None:
    outcome = undertone("train", small_corpus, "--out", tmp_path / "run", *WORDS, word)
    assert outcome.fails_with("Head 'svm' is fitted by a solver, not by gradients", word.split("=")[0]), outcome.err
