"""Heads that a solver fits, from the command line: selection on dev, the scaler, the refit, and what they refuse."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import Ridge
from sklearn.metrics import recall_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from undertone import load_model
from undertone.audio.read import read_audio
from undertone.corpora.manifest import Manifest
from undertone.scoring.metrics import ccc
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import title_lines
from undertone.tests.cli.commands import undertone
from undertone.tests.cli.runs import fold, history, results, weights
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
    model = LinearSVC(C=C, random_state=0, tol=1e-8, max_iter=1_000_000).fit(
        scaler.transform(rows.astype(float)), labels
    )
    return dict(zip(features["F1"][2], model.predict(scaler.transform(features["F1"][0])), strict=True))


def config_of_model(out: Path) -> dict[str, Any]:
    return json.loads((out / "model" / "config.json").read_text())


def test_dev_inner_scores_every_training_speaker_once_by_the_others(
    small_corpus: Path, store: Path, tmp_path: Path, features
) -> None:
    """The mean UAR of scikit-learn's machines, each fitted on two of the three training speakers."""
    out, scores, margins = run(small_corpus, store, tmp_path / "run", "head.C=0.001", "tasks=emotion"), [], []
    for held in SPEAKERS[1:]:
        rows, labels = (np.concatenate([features[one][part] for one in SPEAKERS[1:] if one != held]) for part in (0, 1))
        scaler = StandardScaler().fit(rows.astype(float))
        model = LinearSVC(C=0.001, random_state=0, tol=1e-8, max_iter=1_000_000).fit(scaler.transform(rows), labels)
        found = model.predict(scaler.transform(features[held][0].astype(float)))
        scores.append(recall_score(features[held][1], found, average="macro"))
        margins.append(model.decision_function(scaler.transform(features[held][0].astype(float))))
    assert fold(out)["dev_score"] == pytest.approx(np.mean(scores))
    values = np.concatenate(margins)
    truth = np.searchsorted(model.classes_, np.concatenate([features[one][1] for one in SPEAKERS[1:]]))
    wanted = (np.eye(4)[truth] * len(truth) + 1) / (len(truth) + 4)  # Platt's targets
    temperatures = np.geomspace(0.05, 20, 2000)
    losses = [-(wanted * log_softmax(values / one, axis=1)).sum() for one in temperatures]
    own = fold(out)["calibration"]["emotion"]
    assert own["temperature"] == pytest.approx(temperatures[np.argmin(losses)], rel=0.01)
    assert own["num_dev"] == len(truth) and config_of_model(out)["calibration"]["emotion"] == own


def predicted(out: Path) -> dict[str, str]:
    found = Predictions.load(out / "predictions.parquet")
    labels = found.tasks[0].labels
    return {name: labels[row.argmax()] for name, row in zip(found.ids, found.scores["emotion"], strict=True)}


def test_refit_on_dev_fits_again_on_train_and_dev(small_corpus: Path, store: Path, tmp_path: Path, features) -> None:
    """Predictions of a fold are scikit-learn's, from the training speakers, or from all but the tested one."""
    plain = run(small_corpus, store, tmp_path / "plain", "head.C=0.001", "dev=fold")
    again = run(small_corpus, store, tmp_path / "again", "head.C=0.001", "dev=fold", "refit_on_dev=true")
    inner = run(small_corpus, store, tmp_path / "inner", "head.C=0.001")
    assert predicted(inner) == predicted(again) and fold(inner)["dev_score"] != fold(again)["dev_score"]
    assert predicted(again) == expected(features, ["F2", "M1", "M2"], 0.001)
    pairs = [expected(features, [s for s in SPEAKERS[1:] if s != dev], 0.001) for dev in SPEAKERS[1:]]
    assert predicted(plain) in pairs
    assert fold(plain)["dev_score"] == fold(again)["dev_score"]  # dev is scored before it is learned from
    own, others = weights(plain), weights(again)
    assert any((own[name] != others[name]).any() for name in own)
    assert (own["downstream.head.mean"] != others["downstream.head.mean"]).any()


@pytest.mark.parametrize("dev", [pytest.param("fold", marks=pytest.mark.slow), "inner"])
def test_C_is_chosen_for_each_task_and_the_model_needs_no_scikit_learn(
    small_corpus: Path, store: Path, tmp_path: Path, dev: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = {
        C: history(run(small_corpus, store, tmp_path / str(C), f"head.C={C}", f"dev={dev}"))[-1]["dev"]
        for C in (1e-8, 0.01, 100.0)
    }
    out = run(small_corpus, store, tmp_path / "both", "--sweep", "head.C=1e-8,0.01,100", f"dev={dev}")
    best = {task: max(looks, key=lambda C: looks[C][task]["uar"]) for task in ("emotion", "gender")}
    assert fold(out)["chosen"] == {"head.C": best}
    assert fold(out)["dev_score"] == pytest.approx(np.mean([looks[C][task]["uar"] for task, C in best.items()]))
    assert config_of_model(out)["head_options"] == {"C": best}
    on = "the dev part of each fold" if dev == "fold" else "3 inner folds over the training speakers, train and dev"
    lines = title_lines(results(out))
    assert f"Selected by UAR of emotion, UAR of gender, each task separately, on {on}." in lines
    assert any(line.startswith("Sweep: head.C of 1e-08, 0.01, 100, chosen for each fold: emotion") for line in lines)
    assert results(out)["sweep"]["how"] == f"chosen on {on}"
    clip = next(small_corpus.parent.rglob("*.wav"))
    for name in ("sklearn", "datasets", "evaluate"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    assert load_model(out).predict([clip])[0]["emotion"]["label"]


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


def test_inner_folds_are_for_fitted_heads(small_corpus: Path, tmp_path: Path) -> None:
    outcome = undertone("train", small_corpus, "--out", tmp_path / "run", "--head", "linear", "dev=inner")
    assert outcome.fails_with("dev=inner is for heads that are fitted by a solver"), outcome.err


def test_a_value_of_the_sweep_that_C_cannot_be_is_refused_at_once(small_corpus: Path, tmp_path: Path) -> None:
    outcome = undertone("train", small_corpus, "--out", tmp_path / "run", *WORDS, "sweep.head.C=0.1,-1")
    assert outcome.fails_with("C must be a number > 0, got -1"), outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("head", ["ridge", "logistic"])
def test_classes_and_values_in_one_fitted_head(small_corpus: Path, store: Path, tmp_path: Path, head: str) -> None:
    """Values are scikit-learn's Ridge with the C that was chosen for them, and no worse than its default."""
    out = tmp_path / "run"
    words = ("--system", "functionals", "--head", head, "--store", store, "device=cpu", "tasks=emotion,arousal")
    outcome = undertone("crossval", small_corpus, "--out", out, *words)
    assert outcome.status == 0, outcome.err
    upstream, rows, values = load_upstream("functionals"), {}, {}
    for item in Manifest.load(out / "manifest"):
        states = upstream(WaveBatch.collate([read_audio(item.path, 16_000)], 16_000)).states
        rows[item.id], values[item.id] = (item.speaker, states.flatten().double().numpy()), item.label("arousal")
    found = Predictions.load(out / "predictions.parquet")
    plain = np.zeros(len(found))
    for fold_ in results(out)["folds"]:
        train = [name for name in rows if rows[name][0] != fold_["name"]]
        held = [place for place, name in enumerate(found.ids) if rows[name][0] == fold_["name"]]
        scaler = StandardScaler().fit(np.stack([rows[name][1] for name in train]))
        x, y = scaler.transform(np.stack([rows[name][1] for name in train])), [values[name] for name in train]
        test = scaler.transform(np.stack([rows[found.ids[place]][1] for place in held]))
        chosen = fold_["chosen"]["head.C"]
        assert set(chosen) == {"emotion", "arousal"}
        expected = Ridge(alpha=0.5 / chosen["arousal"]).fit(x, y).predict(test)
        np.testing.assert_allclose(found.scores["arousal"][held, 0], expected.clip(0, 1), atol=1e-4)
        plain[held] = Ridge().fit(x, y).predict(test)
    pooled = results(out)["pooled"]
    assert pooled["arousal"]["ccc"] >= ccc(found.targets["arousal"], plain) - 0.01
    assert pooled["emotion"]["uar"] > 0.4
    model = load_model(out)
    answer = model.predict([str(next(small_corpus.parent.rglob("*.wav")))])[0]
    assert isinstance(answer["arousal"], dict | float) and answer["emotion"]["label"]


def test_two_speakers_leave_one_to_train_on_and_the_table_says_so(small_corpus: Path, store: Path, tmp_path: Path):
    lines = small_corpus.read_text().splitlines()
    few = small_corpus.parent / "few.csv"
    few.write_text("\n".join([lines[0], *(line for line in lines[1:] if ",F1," in line or ",M1," in line)]))
    out = run(few, store, tmp_path / "run", "sweep.head.C=1e-3,1e-1")
    on = "on 3 inner folds over the training utterances (there are too few speakers), train and dev."
    assert any(line.startswith("Selected by ") and line.endswith(on) for line in title_lines(results(out)))
