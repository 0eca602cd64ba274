"""Embeddings of a fold's test utterances: saved with its predictions, and mapped to a plane for the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from undertone.common.files import atomic_path

FILE_NAME = "embeddings.safetensors"
FEWEST = 10  # different embeddings that a map needs
MOST = 2000  # utterances on a map
_LARGEST = float(np.finfo(np.float16).max)


def save_embeddings(folder: Path, ids: Sequence[str], embeddings: np.ndarray) -> None:
    """Write (N, E) embeddings as float16, with the ids of their utterances, in the order of the predictions."""
    from safetensors.numpy import save_file

    kept = np.clip(embeddings, -_LARGEST, _LARGEST).astype(np.float16)
    with atomic_path(folder / FILE_NAME) as draft:
        save_file({"embeddings": kept}, draft, metadata={"ids": json.dumps(list(ids))})


def load_embeddings(folder: Path) -> tuple[list[str], np.ndarray]:
    """The ids and the (N, E) float16 embeddings that `save_embeddings` wrote."""
    from safetensors import safe_open

    with safe_open(folder / FILE_NAME, "np") as file:
        return json.loads(file.metadata()["ids"]), file.get_tensor("embeddings")


def embedding_map(embeddings: np.ndarray) -> np.ndarray | None:
    """(N, E) -> (N, 2) by t-SNE (van der Maaten and Hinton 2008) of the standardised features, seeded.

    None where fewer than `FEWEST` embeddings differ, as those of a collapsed model.
    """
    from sklearn.manifold import TSNE

    if len(np.unique(embeddings, axis=0)) < FEWEST:
        return None
    values = embeddings.astype(np.float64)
    values = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-6)
    perplexity = min(30.0, (len(values) - 1) / 3)
    return np.asarray(TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(values))
