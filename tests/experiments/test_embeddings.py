from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from undertone.common.console import Display
from undertone.experiments.crossval import train
from undertone.experiments.embeddings import embedding_map, load_embeddings, save_embeddings
from undertone.scoring.predictions import Predictions
from undertone.training.settings import make_config


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    values = np.array([[1.5, -2.0], [1e9, 0.1]])
    save_embeddings(tmp_path, ["a", 'ü"'], values)
    ids, found = load_embeddings(tmp_path)
    assert ids == ["a", 'ü"']
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, np.array([[1.5, -2.0], [65504, 0.1]], dtype=np.float16))


def test_a_fold_keeps_the_embeddings_of_its_predictions(small_corpus: Path, tmp_path: Path) -> None:
    """The head's output layers turn them into the very probabilities that were written, in their order."""
    words = ["max_epochs=1", "batch_size=5", "head.hidden_size=8", f"store={tmp_path / 'store'}"]
    train(make_config({"corpus": str(small_corpus)}, words), tmp_path / "run", display=Display(quiet=True))
    (folder,) = (path.parent for path in (tmp_path / "run").glob("folds/*/fold.json"))
    predictions = Predictions.load(folder / "predictions.parquet")
    ids, embeddings = load_embeddings(folder)
    assert ids == predictions.ids
    from undertone.inference.predict import load_model

    outputs = load_model(tmp_path / "run").model.downstream.head.outputs
    logits = outputs(torch.from_numpy(embeddings.astype(np.float32)))["emotion"]
    np.testing.assert_allclose(logits.softmax(-1).detach().numpy(), predictions.scores["emotion"], atol=2e-3)


def test_the_map_keeps_neighbours_and_is_the_same_every_time() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], 15)
    values = 8 * rng.normal(0, 1, (3, 20))[groups] + rng.normal(0, 1, (45, 20))
    points = embedding_map(values.astype(np.float16))
    distances = np.linalg.norm(points[:, None] - points, axis=-1) + 1e9 * np.eye(45)
    assert np.mean(groups[distances.argmin(1)] == groups) == 1
    np.testing.assert_array_equal(points, embedding_map(values.astype(np.float16)))
    assert embedding_map(np.eye(10)).shape == (10, 2)
    assert embedding_map(np.ones((50, 4))) is None  # t-SNE of equal points ends the process
    assert embedding_map(np.eye(9)) is None
