"""A run as training leaves it, small: files only, no model is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

TASKS = [
    {"name": "emotion", "kind": "classification", "labels": ["angry", "happy", "sad"]},
    {"name": "gender", "kind": "classification", "labels": ["female", "male"]},
    {"name": "arousal", "kind": "regression", "labels": ["arousal"]},
]


def write_model(folder: Path, **upstream: Any) -> Path:
    """A model folder's three files."""
    folder.mkdir(parents=True)
    config = {
        "model_type": "undertone",
        "head": "attention",
        "tasks": TASKS,
        "transformers_version": "5.23.0",
        "upstream": {"kind": "class", "name": "fbank"} | upstream,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16000}))
    save_file({"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}, folder / "model.safetensors")
    return folder


def make_results(**changes: Any) -> dict[str, Any]:
    """A `results.json` of two folds."""
    emotion = {"uar": 0.612, "wa": 0.634, "macro_f1": 0.601, "ece": 0.08}
    mean = {"emotion": emotion, "gender": {"uar": 0.951}, "arousal": {"ccc": 0.412, "rmse": None}}
    recall = {"angry": 0.9, "happy": 0.36, "sad": None}
    genders = {
        name: {
            "emotion": {"uar": uar, "wa": 0.6, "macro_f1": None, "num": 10},
            "arousal": {"ccc": 0.4, "rmse": 0.2, "num": 10},
        }
        for name, uar in (("female", 0.58), ("male", 0.64))
    }
    results = {
        "corpus": "emodb",
        "tasks": TASKS,
        "upstream": "fbank",
        "upstream_weights": None,
        "head": "attention",
        "protocol": "speaker",
        "speaker_independent": True,
        "folds": [{"name": "03", "metrics": mean}, {"name": "08", "metrics": mean}],
        "mean": mean,
        "std": {"emotion": {"uar": 0.05, "wa": None}, "gender": {}, "arousal": {"ccc": 0.02}},
        "pooled": {
            "emotion": {"uar": 0.62, "wa": None, "num": 20, "recall": recall},
            "gender": {"uar": 0.95, "num": 20},
            "arousal": {"ccc": 0.431, "num": 20},
        },
        "ci95": {"emotion": {"uar": [0.55, 0.68], "wa": [None, None]}, "gender": {}, "arousal": {}},
        "ci_method": "jackknife over speakers, Student's t",
        "ci_unit": "speaker",
        "ci_num_units": 5,
        "ci_notes": ["No interval for arousal: for a reason."],
        "chance": {"emotion": {"uar": 1 / 3, "wa": None}, "gender": {"uar": 0.5}, "arousal": {"ccc": 0.0}},
        "per_gender": genders,
        "versions": {"undertone": "0.1.0", "torch": "2.14.1"},
    }
    return results | changes


def write_run(folder: Path, **changes: Any) -> Path:
    """A finished run: model, results, and what must stay at home."""
    write_model(folder / "model")
    (folder / "results.json").write_text(json.dumps(make_results(**changes)))
    (folder / "config.json").write_text(json.dumps({"corpus": "emodb"}))
    (folder / "predictions.parquet").write_bytes(b"names of people's files")
    (folder / "report.html").write_text("<html></html>")
    return folder
