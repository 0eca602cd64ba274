"""A model of transformers on the utterances of a corpus: its predictions, its labels, and what its card says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from undertone.audio.batches import ahead
from undertone.audio.read import AudioError
from undertone.common.console import Display
from undertone.corpora import corpus_names
from undertone.corpora.manifest import Utterance
from undertone.downstream.transformers_model import TransformersModel
from undertone.scoring.predictions import Predictions
from undertone.training.prediction_loop import make_predictions, task_scores
from undertone.training.targets import scored_targets
from undertone.upstream.base import read_clip
from undertone.upstream.execution import side_by_side
from undertone.upstream.types import WaveBatch, sound_of


def predict_clips(
    model: TransformersModel, utterances: Sequence[Utterance], fold: str, display: Display
) -> Predictions:
    """The predictions for every utterance, read from its file and predicted alone; nothing is stored.

    Raises:
        AudioError: a file that the preparation could read, and that cannot be read any more.
    """

    def compute(used: TransformersModel, batch: Sequence[Utterance]) -> dict[str, Tensor]:
        """The logits (1, C) of every task, on the CPU."""
        waves = []
        for item in batch:
            wave = read_clip(used.upstream, item.path, item.start, item.end)
            if isinstance(wave, AudioError):
                raise wave
            waves.append(sound_of(wave))
        batch_of_one = WaveBatch.collate(waves, used.sample_rate)
        return {name: logits.cpu() for name, logits in used.predict_batch(batch_of_one).logits.items()}

    batches = [[item] for item in utterances]
    if model.device.type == "cpu":
        done = side_by_side(model, batches, compute)
    else:
        done = ahead(batches, lambda batch: compute(model, batch), workers=1)
    found: list[dict[str, Tensor]] = []
    with display.bar(f"{model.name}: utterances") as advance:
        for _, logits in done:
            found.append(logits)
            advance(len(found), len(utterances), "")
    tasks = model.tasks
    joined = {task.name: torch.cat([logits[task.name] for logits in found]) for task in tasks}  # (N, C)
    truth = {task.name: scored_targets(task, utterances) for task in tasks}
    return make_predictions(tasks, utterances, task_scores(tasks, joined), truth, fold)


def in_words_of(model: TransformersModel, label_map: Mapping[str, str]) -> tuple[TransformersModel, dict[str, str]]:
    """The model with the corpus' words for its labels, so that a comparison with a run finds the same classes.

    Takes {corpus' label: model's label}; also gives {corpus' label: another of the corpus' labels} for what is mapped
    to one label of the model.
    """
    words: dict[str, str] = {}
    for ours, theirs in label_map.items():
        words.setdefault(theirs, ours)
    left = {ours: words[theirs] for ours, theirs in label_map.items() if words[theirs] != ours}
    return model.renamed(words), left


def short_enough(model: TransformersModel, utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[str]]:
    """The utterances that the model takes, and a sentence on how many are longer; a ValueError where all are."""
    kept = [item for item in utterances if item.duration <= model.max_seconds]
    if not kept:
        raise ValueError(f"{model.name!r} takes at most {model.max_seconds:g} s, and every utterance is longer.")
    longer = len(utterances) - len(kept)
    return kept, [f"not scored, longer than the {model.max_seconds:g} s it takes: {longer}"] if longer else []


def seen_by_card(model: TransformersModel, corpus: str) -> tuple[list[str], list[str]]:
    """Sentences on why the model may have been trained on this corpus, and what its card says otherwise.

    A card that names the corpus, in its metadata or its text, counts as trained on it. Speakers of a built-in corpus
    are in no other, so that a card with other data sets is taken at its word.
    """
    named = model.datasets()
    if model.names_corpus(corpus):
        return [f"the card of {model.name} names {corpus}: the model may have been trained on these speakers"], []
    if not named:
        return [f"it is not known whether {model.name} was trained on these speakers: no card says on what it was"], []
    known = corpus in corpus_names()
    said = f"the card of {model.name} names {', '.join(named)} as its training data"
    return ([], [said]) if known else ([f"{said}; whether these speakers are in it is not known"], [])
