"""Without room for frames: what mixtures are learned from, and what a source that computes anew gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from undertone.common.console import Display
from undertone.experiments.open_run import open_run
from undertone.experiments.run import Run
from undertone.tests.cli.runs import rows_of, write_table
from undertone.training.settings import make_config
from undertone.training.sources import EVERYONE, MixtureSource, RecomputeSource, StoreSource
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


def test_test_labels_have_no_part_in_the_layer_weights(rows, upstream: Path, tmp_path: Path) -> None:
    budget = "store_budget=500kB"
    run = opened(write_table(tmp_path / "t.csv", rows), upstream, tmp_path / "run", budget)
    assert isinstance(run.source, MixtureSource) and run.stored == "mixture"
    fold, other = run.folds
    tested = {item.path for item in run.manifest.select(fold.test)}
    emotions = sorted({row["emotion"] for row in rows})
    for row in rows:
        if row["file"] in {path for path in tested} | {Path(path).name for path in tested}:
            row["emotion"] = emotions[emotions.index(row["emotion"]) - 1]
    again = opened(write_table(tmp_path / "t2.csv", rows), upstream, tmp_path / "again", budget)
    assert [one.test for one in again.folds] == [one.test for one in run.folds]
    assert isinstance(again.source, MixtureSource)
    assert again.source.weights[fold.name] == run.source.weights[fold.name]
    assert again.source.weights[other.name] != run.source.weights[other.name]


def test_a_mixture_is_the_layer_sum_of_its_weights(rows, upstream: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", rows)
    mixed = opened(table, upstream, tmp_path / "mixed", "store_budget=1MB", "store_dtype=float32")
    frames = opened(table, upstream, tmp_path / "frames", "store_dtype=float32")
    assert isinstance(mixed.source, MixtureSource) and isinstance(frames.source, StoreSource)
    clips = list(frames.manifest)[:3]
    for name in (mixed.folds[0].name, EVERYONE):
        weights = torch.tensor(mixed.source.weights[name])
        own = mixed.of(name)
        batch, every = own.source(clips), frames.source(clips)
        expected = torch.einsum("l,bltd->btd", weights, every.states)
        torch.testing.assert_close(batch.states[:, 0], expected, rtol=0, atol=1e-5)
        summed = own.new_downstream(name).layer_sum
        assert not summed.logits.requires_grad
        torch.testing.assert_close(summed(batch).features, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(summed(every).features, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", ["attention", "linear"])
def test_computed_anew_is_what_would_be_stored(rows, upstream: Path, tmp_path: Path, head: str) -> None:
    table = write_table(tmp_path / "t.csv", rows)
    anew = opened(table, upstream, tmp_path / "anew", "store_budget=0", f"head={head}")
    stored = opened(table, upstream, tmp_path / "stored", "store_dtype=float32", f"head={head}")
    assert isinstance(anew.source, RecomputeSource) and isinstance(stored.source, StoreSource)
    clips = list(stored.manifest)[:5]
    got, expected = anew.source(clips), stored.source(clips)
    assert torch.equal(got.lengths, expected.lengths)
    torch.testing.assert_close(got.states, expected.states, rtol=0, atol=1e-5)
    assert (got.states.shape[2] == 1) == (head == "linear")
