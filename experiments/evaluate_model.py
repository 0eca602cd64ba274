"""A trained model on a whole corpus: scores and predictions in a folder that is read like a run's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from undertone.common.console import Display
from undertone.common.discovery import nearest
from undertone.common.files import read_json, write_json
from undertone.corpora import corpus_names, load_corpus
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest, Utterance, listed, sum_votes
from undertone.corpora.prepare import prepare_corpus
from undertone.downstream.model import UndertoneModel
from undertone.downstream.network import needed_states
from undertone.downstream.speaker_hashes import hash_speakers
from undertone.downstream.task import Task
from undertone.downstream.transformers_model import TransformersModel
from undertone.experiments.crossval import corpus_info
from undertone.experiments.evaluate_clips import in_words_of, predict_clips, seen_by_card, short_enough
from undertone.experiments.hidden_states import lacking_video, stored_source
from undertone.experiments.run import weights_of
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import EVALUATE, is_evaluation, summarise
from undertone.training.accelerator import make_accelerator
from undertone.training.prediction_loop import predict_and_embed
from undertone.training.targets import annotation, scored_targets, scored_task
from undertone.upstream.precision import check_exact

BATCH_SIZE = 16
ALL = "all"  # the one fold of an evaluation


def evaluate_model(
    model: UndertoneModel | TransformersModel,
    corpus: str,
    root: Path | None,
    device: str = "auto",
    display: Display | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    label_map: Mapping[str, str] | None = None,
    labels: Sequence[str] = (),
    out: Path | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Score a model on every utterance of a corpus; the results are like a run's with one fold named `all`.

    Utterances with a label that the model does not know are not scored, and counted in `warnings`; soft labels are
    scored by the class with most votes, or by the label where the corpus has no votes. When the model was trained on
    speakers of this corpus, or when that is not known, the results say that they are speaker-dependent.

    Args:
        model: on any device; one of transformers' own gets the corpus' names for its labels by `label_map`.
        corpus: name, table, folder, ...
        root: folder of its files; None: the corpus' default.
        device: auto, cpu or cuda.
        display: where progress is shown.
        options: of the corpus.
        label_map: {corpus' label: model's label} of the model's first task with classes.
        labels: of that task, the only ones to score and to predict; empty: all.
        out: folder for `results.json` and `predictions.parquet`, as of a run; None: nothing is written.
        command: that repeats it, for the report.

    Raises:
        ValueError: the corpus cannot be read, has no label of any task of the model, or a label is unknown; `out` holds
            something else than an evaluation; or the model was loaded with another `mixed_precision` than no.
    """
    display = display or Display()
    check_exact(model.upstream, "An evaluation")
    if out is not None:
        _check_out(out)
    source = load_corpus(corpus, options)
    prepared = prepare_corpus(source, root, display)
    manifest = prepared.manifest
    model, tasks, utterances = _with_common_labels(model, list(manifest), label_map or {})
    notes = [f"skipped {path}: {reason}" for path, reason in prepared.broken]
    if label_map:
        notes.append("labels mapped: " + ", ".join(f"{ours} as {theirs}" for ours, theirs in label_map.items()))
    notes += _unknown_labels(tasks, source.name, utterances)
    if isinstance(model, TransformersModel):
        utterances, longer = short_enough(model, utterances)
        notes += longer
    seen, said = _seen_speakers(model, manifest, source.name)
    notes += lacking_video(model.upstream, utterances)
    predictions = _predictions(model, tasks, utterances, device, display)
    predictions = replace(predictions, speakers=[manifest.speaker_names[name] for name in predictions.ids])
    if labels:
        task = _first_with_classes(predictions.tasks)
        predictions = restrict(predictions, task, labels)
        notes.append(f"{task.name}: only {', '.join(labels)} are scored and predicted")
    info = {
        **corpus_info(source, manifest, [Fold(ALL, (), (), tuple(predictions.ids))]),
        "label_map": dict(label_map or {}),
        "labels": list(labels),
        **_described(model),
        "protocol": EVALUATE,
        "speaker_independent": not seen,
        "warnings": prepared.warnings + notes + said + seen,
    } | ({"commands": [command]} if command else {})
    results = summarise([(ALL, predictions)], info)
    if out is not None:
        predictions.save(out / "predictions.parquet")
        write_json(out / "results.json", results)
    return results


def _with_common_labels(
    model: UndertoneModel | TransformersModel, utterances: list[Utterance], label_map: Mapping[str, str]
) -> tuple[UndertoneModel | TransformersModel, tuple[Task, ...], list[Utterance]]:
    """Model, tasks and utterances with the same labels: the model's, but the corpus' for one of transformers' own."""
    if label_map and isinstance(model, TransformersModel):
        model = model.renamed({})  # what only had labels is a model of emotions now
    voted = any(utterance.votes for utterance in utterances)
    tasks = tuple(task if voted else scored_task(task) for task in model.tasks)
    if not label_map:
        return model, tasks, utterances
    mapped = relabel(utterances, _first_with_classes(tasks), label_map)
    if not isinstance(model, TransformersModel):
        return model, tasks, mapped
    model, left = in_words_of(model, label_map)
    return model, model.tasks, relabel(utterances, _first_with_classes(model.tasks), left)


def _described(model: UndertoneModel | TransformersModel) -> dict[str, str | None]:
    """What the results call the model."""
    if isinstance(model, TransformersModel):
        is_random = getattr(model.model.config, "undertone_random_weights", False)
        weights = "random" if is_random else "pretrained"
        return {"upstream": model.name, "upstream_weights": weights, "head": type(model.model).__name__}
    return {
        "upstream": model.config.upstream.get("name"),
        "upstream_weights": weights_of(model.upstream),
        "head": model.config.head,
    }


def _predictions(
    model: UndertoneModel | TransformersModel,
    tasks: tuple[Task, ...],
    utterances: Sequence[Utterance],
    device: str,
    display: Display,
) -> Predictions:
    """Predictions, of our models from stored hidden states; those that are not stored yet are computed first."""
    accelerator = make_accelerator(device)
    model.to(accelerator.device).eval()
    if isinstance(model, TransformersModel):
        return predict_clips(model, utterances, ALL, display)
    kind = needed_states(model.config.head, model.config.layer_norm)
    states = stored_source(model.upstream, kind, utterances, accelerator, display)
    return predict_and_embed(model.downstream, tasks, states, utterances, accelerator, BATCH_SIZE, ALL)[0]


def _check_out(out: Path) -> None:
    """Refuse a folder that holds something else than an earlier evaluation."""
    results = out / "results.json"
    if out.is_dir() and any(out.iterdir()) and not (results.is_file() and is_evaluation(read_json(results))):
        raise ValueError(f"{out} is not empty and holds no evaluation. Choose another --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"Cannot make the folder {out}: {error.strerror}. Choose another --out.") from error


def _first_with_classes(tasks: Sequence[Task]) -> Task:
    """The task that --map and --labels are about."""
    for task in tasks:
        if task.has_classes:
            return task
    raise ValueError("--map and --labels are for classes, and no task of this model has any. Leave them out.")


def _seen_speakers(
    model: UndertoneModel | TransformersModel, manifest: Manifest, corpus: str
) -> tuple[list[str], list[str]]:
    """Sentences on why the model may have seen speakers of this corpus, and what a card says otherwise.

    As in `check-split`, the speakers of a built-in corpus are in no other corpus; between the user's data, such as
    train.csv and test.csv, equal labels are equal speakers.
    """
    if isinstance(model, TransformersModel):
        return seen_by_card(model, corpus)
    trained_on, ours = model.config.trained_on, set(corpus_names())
    theirs = trained_on.get("corpora") or [trained_on.get("corpus")]
    tested: list[str | None] = manifest.column("speaker")
    pairs = sorted(set(zip(manifest.column("corpus"), tested, strict=True)), key=str)
    apart = [[one is not None and one != here and bool({one, here} & ours) for one in theirs] for here, _ in pairs]
    if all(map(all, apart)):
        return [], []
    found = {  # {what the model calls a speaker that may be one of its own: what the manifest calls it}
        f"{one}/{name}" if len(theirs) > 1 else str(name): str(name)
        for (_, name), row in zip(pairs, apart, strict=True)
        for one, never in zip(theirs, row, strict=True)
        if name is not None and not never
    }
    trained, keys = set(trained_on.get("speakers", [])), list(found)
    if not trained:  # a model from the Hub has hashes of the names
        trained = set(trained_on.get("speaker_hashes", []))
        keys = hash_speakers(keys, str(trained_on.get("manifest_hash"))) if trained else keys
    if both := sorted({name for name, key in zip(found.values(), keys, strict=True) if key in trained}):
        return [f"the model was trained on speakers {listed(both)} of this corpus"], []
    if None in tested or trained_on.get("unknown_speakers") or not trained:
        side = "test" if None in tested else "training"
        return [f"it is not known whether the model was trained on these speakers: {side} utterances have none"], []
    return [], []


def _unknown_labels(tasks: Sequence[Task], corpus: str, utterances: Sequence[Utterance]) -> list[str]:
    """A sentence for each task with labels that the model does not know; refuses a corpus where it knows none."""
    sentences, known = [], 0
    for task in tasks:
        if task.level == "frame":
            known += sum(int(np.isfinite(annotation(task, utterance)[1]).sum()) for utterance in utterances)
        else:
            truth = scored_targets(task, utterances)
            known += int((truth >= 0 if task.has_classes else np.isfinite(truth)).sum())
        if task.kind == "classification":
            labels = [str(value) for item in utterances if (value := item.label(task.name)) is not None]
            strange = Counter(label for label in labels if label not in task.labels)
            if strange:
                counts = ", ".join(f"{label} ({count})" for label, count in sorted(strange.items()))
                sentences.append(f"not scored, the model has no such {task.name}: {counts}")
    if not known:
        wanted = "; ".join(
            f"{task.name}: {', '.join(task.labels)}" if task.has_classes else task.name for task in tasks
        )
        raise ValueError(
            f"No utterance of {corpus!r} has a label that the model knows ({wanted}). Map the corpus' labels to the "
            f"model's: --map CORPUS_LABEL=MODEL_LABEL,..."
        )
    return sentences


# ---- Mapping a corpus' labels to a model's, and scoring only some of the labels.

EMOTION = "emotion"  # what votes are about


def parse_labels(text: str) -> tuple[str, ...]:
    """`angry, happy` -> (angry, happy)."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def relabel(utterances: Sequence[Utterance], task: Task, mapping: Mapping[str, str]) -> list[Utterance]:
    """The utterances with the task's labels and votes mapped to the model's; others stay. Both must have the labels."""
    labels = [utterance.label(task.name) for utterance in utterances]
    present = {str(label) for label in labels if label is not None}
    if task.name == EMOTION:
        present |= {label for utterance in utterances for label in utterance.votes or {}}
    for ours, model in mapping.items():
        turned = " Is it the other way round?" if ours in task.labels and model in present else ""
        for word, known, owner in ((ours, present, "corpus"), (model, task.labels, "model")):
            if word not in known:
                raise ValueError(
                    f"--map {ours}={model}: the {owner} has no {task.name} {word!r}.{turned}{nearest(word, known)}"
                )
    renamed = [
        utterance.with_label(task.name, mapping[str(label)]) if str(label) in mapping else utterance
        for utterance, label in zip(utterances, labels, strict=True)
    ]
    if task.name != EMOTION:
        return renamed
    return [one if one.votes is None else replace(one, votes=sum_votes(one.votes.items(), mapping)) for one in renamed]


def restrict(predictions: Predictions, task: Task, labels: Sequence[str]) -> Predictions:
    """Score one task on two or more of its labels: other targets are missing, and probabilities are renormalised."""
    for label in labels:
        if label not in task.labels:
            raise ValueError(f"--labels: the model has no {task.name} {label!r}.{nearest(label, task.labels)}")
    kept = [index for index, label in enumerate(task.labels) if label in labels]
    if len(kept) < 2:
        raise ValueError(f"--labels needs two labels or more of {', '.join(task.labels)}; got {', '.join(labels)}.")
    scores = predictions.scores[task.name][:, kept]  # (N, K)
    total = np.maximum(scores.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)  # (N, 1), never 0
    place = np.full(len(task.labels) + 1, -1)  # the last is that of a missing target, -1
    place[kept] = np.arange(len(kept))
    fewer = replace(task, labels=tuple(task.labels[index] for index in kept))
    return replace(
        predictions,
        tasks=tuple(fewer if one.name == task.name else one for one in predictions.tasks),
        scores={**predictions.scores, task.name: scores / total},
        targets={**predictions.targets, task.name: place[predictions.targets[task.name]]},
    )
