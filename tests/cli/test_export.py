"""From `crossval` to what others run: export to transformers and ONNX, the dry run of a push."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from undertone.tests.cli.commands import undertone
from undertone.upstream.hf.random_weights import save_random


@pytest.fixture(scope="module")
def probe(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear head on a tiny WavLM."""
    upstream = save_random("tiny-wavlm-layer", tmp_path_factory.mktemp("upstream") / "wavlm")
    return trained("--upstream", str(upstream), "--head", "linear", "--tasks", "gender,emotion")


def test_a_probe_becomes_a_class_of_transformers(probe: Path, tmp_path: Path) -> None:
    done = undertone("export", probe, "--to", "transformers", "--out", tmp_path / "native")
    assert done.status == 0, done.err
    assert f"exported WavLMForSequenceClassification to {tmp_path / 'native'}, task gender" in done.out
    assert "left out: emotion. --task NAME takes another." in done.out
    assert "one sound at a time" not in done.out, "a layer-norm front-end is exact in batches"
    other = undertone("export", probe, "--to", "transformers", "--out", tmp_path / "other", "--task", "emotion")
    assert "task emotion" in other.out
    labels = json.loads((tmp_path / "other" / "config.json").read_text())["id2label"].values()
    assert list(labels) == ["angry", "happy", "neutral", "sad"]


def test_onnx_says_sizes_and_differences(probe: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs undertone[onnx]")
    done = undertone("export", probe, "--to", "onnx", "--out", tmp_path / "onnx")
    assert done.status == 0, done.err
    assert "Differences were measured on noise of 0.5, 3, 15 s, of model.onnx in a padded batch." in done.out
    assert "int8 would make this model no smaller, so that there is no model.int8.onnx" in " ".join(done.out.split())
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == {"model.onnx", "model.json", "predict.py"}


def test_exports_that_cannot_be_are_sentences(probe: Path, finished: Path, tmp_path: Path) -> None:
    assert undertone("export", finished, "--to", "transformers", "--out", tmp_path / "x").fails_with(
        "Head 'attention' has no native shape", "--to onnx"
    )
    assert undertone("export", probe, "--to", "onnx", "--out", tmp_path / "x", "--task", "emotion").fails_with(
        "--task is for --to transformers"
    )
    assert undertone("export", probe, "--to", "transformers", "--out", probe).fails_with("exists already", "new folder")
    assert undertone("export", "no/such-model", "--to", "transformers", "--out", tmp_path / "x").fails_with(
        "HF_HUB_OFFLINE"
    )


def test_a_dry_run_shows_what_would_go(finished: Path) -> None:
    done = undertone("push", finished, "me/mine", "--dry-run")
    assert done.status == 0, done.err
    folder = finished.with_name(f"{finished.name}-published")
    assert f"nothing was sent; private me/mine would hold what is in {folder}" in done.out
    assert {path.name for path in folder.iterdir()} >= {"README.md", "results.json", "confusion_emotion.png"}
    assert all(path.name in done.out for path in folder.iterdir())
    assert "public me/mine" in undertone("push", finished, "me/mine", "--dry-run", "--public").out


def test_a_push_that_could_not_be_is_noticed_before_the_training(small_corpus: Path, tmp_path: Path) -> None:
    done = undertone("crossval", small_corpus, "--out", tmp_path / "run", "--push", "no-slash")
    assert done.fails_with("Give user/name") and not (tmp_path / "run").exists()
