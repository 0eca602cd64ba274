"""The budget of the store: what a run does without the room for its frames, and what it says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from undertone.inference.predict import load_model
from undertone.tests.cli.commands import Outcome, undertone
from undertone.tests.cli.runs import LAST, distance, results, rows_of, write_table
from undertone.upstream.hf.random_weights import save_random

WORDS = ("protocol=groups", "num_folds=2", "head.hidden_size=8", "max_epochs=2", "device=cpu", LAST)


@pytest.fixture(scope="module")
def few(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """A quarter of the small corpus and a tiny wav2vec 2.0 of four layers."""
    folder = tmp_path_factory.mktemp("budget")
    save_random("tiny-wav2vec2-layer", folder / "upstream")
    table = write_table(folder / "few.csv", [row for row in rows_of(small_corpus) if row["file"].endswith("_01.wav")])
    return table, f"upstream={folder / 'upstream'}", *WORDS


def crossval(few: tuple[object, ...], out: Path, *words: object) -> Outcome:
    outcome = undertone("crossval", *few, f"store={out.parent / 'store'}", "--out", out, *words)
    assert outcome.status == 0, outcome.err
    return outcome


def test_store_budget_0_computes_every_batch_anew(few: tuple[object, ...], tmp_path: Path) -> None:
    whole = ("batch_size=64", "head.dropout=0", "store_dtype=float32")  # one batch an epoch: its order does not matter
    said = crossval(few, tmp_path / "anew", "--store-budget", "0", *whole).err
    assert "frames of 16 sounds need" in said and "the budget is 0.0 B (store_budget=20GB sets it)" in said
    assert "nothing is stored, the upstream computes every batch anew" in said
    assert not list((tmp_path / "store").rglob("*.safetensors"))
    stored = crossval(few, tmp_path / "stored", *whole)
    assert "extracted 16 sounds" in stored.err and "audio seconds per second" in stored.err
    assert distance(tmp_path / "anew", tmp_path / "stored") < 1e-4
    assert [results(tmp_path / name)["hidden_states"] for name in ("anew", "stored")] == ["none", "frames"]


def test_store_budget_for_means_is_enough_for_a_linear_head(few: tuple[object, ...], tmp_path: Path) -> None:
    crossval(few, tmp_path / "run", "--head", "linear", "--store-budget", "20kB")
    assert results(tmp_path / "run")["hidden_states"] == "mean"
    assert sum(path.stat().st_size for path in (tmp_path / "store").rglob("*.safetensors")) < 20_000


def test_store_budget_between_makes_mixtures_and_says_so(few: tuple[object, ...], tmp_path: Path) -> None:
    frames = crossval(few, tmp_path / "frames", "store_dtype=float32")
    need = int(sum(path.stat().st_size for path in (tmp_path / "store").rglob("*.safetensors")) * 0.85)
    said = crossval(few, tmp_path / "run", f"store_budget={need}", f"store={tmp_path / 'other'}", "store_dtype=float32")
    assert "head 'attention' needs frames. Layer weights are learned on the means, and 3 mixtures" in said.err
    assert "APPROXIMATION" in said.out and "APPROXIMATION" not in frames.out
    assert sum(path.stat().st_size for path in (tmp_path / "other").rglob("*.safetensors")) < need

    found = results(tmp_path / "run")
    weights = json.loads((tmp_path / "run" / "hidden_states.json").read_text())["mixtures"]
    assert found["hidden_states"] == "mixture" and list(weights) == [*(one["name"] for one in found["folds"]), "all"]
    for one in found["folds"]:
        assert one["layer_weights"] == pytest.approx(weights[one["name"]], abs=1e-6)
        assert sum(one["layer_weights"]) == pytest.approx(1) and len(set(one["layer_weights"])) == 4
    parts = torch.tensor([weights[one["name"]] for one in found["folds"]])
    assert torch.allclose(torch.tensor(weights["all"]), parts.mean(0)) and not torch.allclose(parts[0], parts[1])
    again = crossval(few, tmp_path / "run", f"store={tmp_path / 'other'}", "store_dtype=float32")
    assert "need" not in again.err, "a run that is taken up keeps to what it decided"


def test_a_model_trained_on_mixtures_hears_sound_as_it_was_trained(few: tuple[object, ...], tmp_path: Path) -> None:
    crossval(few, tmp_path / "run", "store_budget=500kB", "store_dtype=float32")
    assert results(tmp_path / "run")["hidden_states"] == "mixture"
    from undertone.scoring.predictions import Predictions

    name = results(tmp_path / "run")["folds"][0]["name"]
    kept = Predictions.load(tmp_path / "run" / "folds" / name / "predictions.parquet")
    model = load_model(tmp_path / "run" / "folds" / name / "model")
    task = kept.tasks[0]
    (row,) = model.predict([Path(str(few[0])).parent / kept.ids[0]])
    scores = [row[task.name]["scores"][label] for label in task.labels]
    assert scores == pytest.approx(kept.scores[task.name][0].tolist(), abs=1e-4)
