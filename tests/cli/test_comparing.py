"""compare, rerun, crossval --compare and new, as a user gives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from undertone.tests.cli.commands import TINY, undertone
from undertone.tests.cli.runs import results


def test_crossval_compares_with_another_run(finished: Path, small_corpus: Path, store: Path, tmp_path: Path) -> None:
    words = ("crossval", small_corpus, "--out", tmp_path / "other", "--store", store, *TINY, "--seed", 3)
    outcome = undertone(*words, "--compare", finished)
    assert outcome.status == 0, outcome.err
    assert "2 runs on the same" in outcome.out and "baseline" in outcome.out

    outcome = undertone("compare", finished, tmp_path / "other", "--out", tmp_path / "compared")
    assert outcome.status == 0 and "Holm" in outcome.out
    assert (tmp_path / "compared" / "compare.html").is_file() and (tmp_path / "compared" / "compare.json").is_file()


def test_runs_that_cannot_be_compared(finished: Path, tmp_path: Path) -> None:
    assert undertone("compare", finished, tmp_path / "none").fails_with("none")
    # noticed before the training, not after it
    words = ("crossval", "synthetic", "--out", tmp_path / "new", *TINY)
    assert undertone(*words, "--compare", tmp_path / "none").fails_with("none")
    assert not (tmp_path / "new").exists()


def test_rerun_makes_the_run_again(finished: Path, tmp_path: Path) -> None:
    outcome = undertone("rerun", finished, "--out", tmp_path / "again")
    assert outcome.status == 0, outcome.err
    assert results(tmp_path / "again")["pooled"] == results(finished)["pooled"]
    assert undertone("rerun", tmp_path / "none").fails_with("none")


@pytest.mark.parametrize("kind", ["head", "corpus", "upstream"])
def test_new_writes_a_file_and_its_test(kind: str, tmp_path: Path) -> None:
    outcome = undertone("new", kind, f"my_{kind}", "--out", tmp_path)
    assert (
        outcome.status == 0 and (tmp_path / f"my_{kind}.py").is_file() and (tmp_path / f"test_my_{kind}.py").is_file()
    )
    assert undertone("new", kind, f"my_{kind}", "--out", tmp_path).fails_with(f"my_{kind}.py")
    assert undertone("new", "heads", "x", "--out", tmp_path).fails_with("'heads'")
