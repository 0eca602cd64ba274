"""Without room for frames: what a source that computes every batch again gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from undertone.common.console import Display
from undertone.common.files import write_json
from undertone.experiments.open_run import open_run
from undertone.experiments.run import Run
from undertone.tests.cli.runs import rows_of, write_table
from undertone.training.settings import make_config
from undertone.training.sources import RecomputeSource, StoreSource
from undertone.upstream.hf.random_weights import save_random


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random("tiny-wav2vec2-layer", tmp_path_factory.mktemp("upstream") / "tiny")


def opened(table: Path, upstream: Path, out: Path, *words: str) -> Run:
    settings = [
        "protocol=groups",
        "num_folds=2",
        "max_epochs=4",
        "lr=0.02",
        "batch_size=8",
        "eval_every=1000",
        "device=cpu",
        f"store={out.parent / 'store'}",
        *words,
    ]
    config = make_config({"corpus": str(table), "upstream": str(upstream), "tasks": ("emotion",)}, settings)
    return open_run(config, out, Display(quiet=True))


@pytest.fixture
def rows(small_corpus: Path) -> list[dict[str, str]]:
    return [row for row in rows_of(small_corpus) if row["file"].endswith(("_01.wav", "_02.wav"))]


def test_a_run_of_stored_mixtures_is_refused(rows, upstream: Path, tmp_path: Path) -> None:
    """An earlier version trained on mixtures of the layers; such a run cannot be continued."""
    table = write_table(tmp_path / "t.csv", rows)
    opened(table, upstream, tmp_path / "run", "store_budget=0")
    write_json(tmp_path / "run" / "hidden_states.json", {"kind": "mixture", "mixtures": {"all": [0.5, 0.5]}})
    with pytest.raises(ValueError, match="kind 'mixture', which this version .* Choose another --out"):
        opened(table, upstream, tmp_path / "run", "store_budget=0")


@pytest.mark.parametrize("head", ["attention", "linear"])
def test_computed_again_is_what_would_be_stored(rows, upstream: Path, tmp_path: Path, head: str) -> None:
    table = write_table(tmp_path / "t.csv", rows)
    again = opened(table, upstream, tmp_path / "again", "store_budget=0", f"head={head}")
    stored = opened(table, upstream, tmp_path / "stored", "store_dtype=float32", f"head={head}")
    assert isinstance(again.source, RecomputeSource) and isinstance(stored.source, StoreSource)
    clips = list(stored.manifest)[:5]
    got, expected = again.source(clips), stored.source(clips)
    assert torch.equal(got.lengths, expected.lengths)
    torch.testing.assert_close(got.states, expected.states, rtol=0, atol=1e-5)
    assert (got.states.shape[2] == 1) == (head == "linear")
