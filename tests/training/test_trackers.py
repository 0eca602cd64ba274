"""Accelerate's trackers get every dev score of a training; offline, as far as the packages are installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from undertone.experiments.crossval import train
from undertone.training import accelerator
from undertone.training.config import RunConfig


def trained(small_corpus: Path, tmp_path: Path, tracker: str) -> list[dict]:
    """A short training of one fold, and what its history holds."""
    config = RunConfig(
        corpus=str(small_corpus), store=str(tmp_path / "store"), max_epochs=2, batch_size=16, eval_every=2,
        head_options={"hidden_size": 8}, device="cpu", log_with=tracker,
    )  # fmt: skip
    train(config, tmp_path / "run")
    (history,) = (tmp_path / "run").glob("folds/*/history.json")
    return [record for record in json.loads(history.read_text()) if "dev" in record]


def test_mlflow_with_a_store_of_files(small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlruns'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path / 'mlruns'}")
    history = trained(small_corpus, tmp_path, "mlflow")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("undertone")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "run/F1" and run.info.status == "FINISHED" and run.data.params["max_epochs"] == "2"
    logged = [metric.value for metric in client.get_metric_history(run.info.run_id, "dev/emotion/uar")]
    assert logged == pytest.approx([record["dev"]["emotion"]["uar"] for record in history])


def test_wandb_offline(small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    trained(small_corpus, tmp_path, "wandb")
    (folder,) = (tmp_path / "run").rglob("offline-run-*")
    (file,) = folder.glob("*.wandb")
    content = file.read_bytes()
    assert wandb.run is None and b"dev/emotion/uar" in content and b"run/F1" in content


def test_a_tracker_that_is_not_installed_is_refused_before_anything_starts(
    small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"log_with=comet needs the package comet_ml: pip install 'undertone\[comet\]'"
    ):
        trained(small_corpus, tmp_path, "comet")
    assert not (tmp_path / "run").exists()
