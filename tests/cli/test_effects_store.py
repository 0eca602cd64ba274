"""The budget of the store: what a run does without the room for its frames, and what it says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    said = crossval(few, tmp_path / "computed", "--store-budget", "0", *whole).err
    assert "frames of 16 clips need" in said and "the budget is 0.0 B (store_budget=20GB sets it)" in said
    assert "nothing is stored, the upstream computes every batch again" in said
    assert not list((tmp_path / "store").rglob("*.safetensors"))
    stored = crossval(few, tmp_path / "stored", *whole)
    assert "extracted 16 clips" in stored.err and "audio seconds per second" in stored.err
    assert distance(tmp_path / "computed", tmp_path / "stored") < 1e-4
    assert [results(tmp_path / name)["hidden_states"] for name in ("computed", "stored")] == ["none", "frames"]


def test_store_budget_for_means_is_enough_for_a_linear_head(few: tuple[object, ...], tmp_path: Path) -> None:
    crossval(few, tmp_path / "run", "--head", "linear", "--store-budget", "20kB")
    assert results(tmp_path / "run")["hidden_states"] == "mean"
    assert sum(path.stat().st_size for path in (tmp_path / "store").rglob("*.safetensors")) < 20_000


def test_store_budget_too_small_for_frames_is_said_and_int8_named(few: tuple[object, ...], tmp_path: Path) -> None:
    said = crossval(few, tmp_path / "run", "store_budget=500kB", "store_dtype=float32")
    assert "nothing is stored, the upstream computes every batch again. store_dtype=int8 halves" in said.err
    assert results(tmp_path / "run")["hidden_states"] == "none"
    again = crossval(few, tmp_path / "run", "store_dtype=float32")
    assert "need" not in again.err, "a resumed run keeps its choice"
    assert results(tmp_path / "run")["hidden_states"] == "none"
