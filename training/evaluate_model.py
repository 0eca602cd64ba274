"""A trained model on a whole corpus."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from undertone.corpora import load_corpus
from undertone.corpora.manifest import Manifest
from undertone.corpora.prepare import prepare
from undertone.downstream.downstream import needed_states
from undertone.downstream.model import UndertoneModel
from undertone.training.config import make_config
from undertone.training.progress import Display
from undertone.training.results import summarise
from undertone.training.run import hidden_states, make_accelerator
from undertone.training.scoring import predict

BATCH_SIZE = 16


def evaluate_model(
    model: UndertoneModel, corpus: str, root: Path | None, device: str = "auto", display: Display | None = None
) -> dict[str, Any]:
    """Score a model on every utterance of a corpus, as results like a run's with one fold named `all`.

    Utterances whose label the model does not know are not scored, and counted in `warnings`. When the model was
    trained on speakers of this corpus, the results say that they are speaker-dependent.

    Raises:
        ValueError: the corpus cannot be read, or has no label of any task of the model.
    """
    display = display or Display()
    source = load_corpus(corpus)
    with display.bar(f"checking {source.name}") as advance:
        prepared = prepare(source, root, progress=lambda done, total: advance(done, total, ""))
    manifest = prepared.manifest
    accelerator = make_accelerator(make_config({"corpus": corpus, "device": device}))
    model.to(accelerator.device).eval()
    config = model.config
    states = hidden_states(
        model.upstream, needed_states(config.head, config.layer_norm), list(manifest), accelerator, display
    )
    predictions = predict(model.downstream, model.tasks, states, list(manifest), accelerator, BATCH_SIZE, "all")
    seen = _seen_speakers(model, source.name, manifest)
    info = {
        "corpus": source.name,
        "upstream": config.upstream.get("name"),
        "upstream_weights": "random" if model.upstream.random_weights else "pretrained",
        "head": config.head,
        "protocol": "evaluate",
        "speaker_independent": not seen,
        "warnings": prepared.warnings + _unknown_labels(model, source.name, manifest) + seen,
        "manifest_hash": manifest.hash,
    }
    return summarise([("all", predictions)], info)


def _seen_speakers(model: UndertoneModel, corpus: str, manifest: Manifest) -> list[str]:
    trained_on = model.config.trained_on
    if trained_on.get("corpus") != corpus:
        return []
    both = sorted(set(trained_on.get("speakers", [])) & {str(name) for name in manifest.column("speaker") if name})
    return [f"the model was trained on speakers {', '.join(both)} of this corpus"] if both else []


def _unknown_labels(model: UndertoneModel, corpus: str, manifest: Manifest) -> list[str]:
    """A sentence for each task with labels that the model does not know.

    Raises:
        ValueError: not one label of any task is known.
    """
    sentences, known = [], 0
    for task in model.tasks:
        try:
            values = [value for value in manifest.column(task.name) if value is not None]
        except (KeyError, ValueError):
            continue
        strange = Counter(
            str(value) for value in values if task.kind == "classification" and str(value) not in task.labels
        )
        known += len(values) - sum(strange.values())
        if strange:
            counts = ", ".join(f"{label} ({count})" for label, count in sorted(strange.items()))
            sentences.append(f"not scored, the model has no such {task.name}: {counts}")
    if not known:
        wanted = "; ".join(f"{task.name}: {', '.join(task.labels)}" for task in model.tasks)
        raise ValueError(f"No utterance of {corpus!r} has a label that the model knows ({wanted}).")
    return sentences
