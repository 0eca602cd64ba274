"""The speech of a pretraining: every corpus without its labels, and without the test speakers of its folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from undertone.common.console import Display
from undertone.common.discovery import nearest
from undertone.corpora.corpus import Corpus
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest
from undertone.corpora.prepare import prepare_corpus
from undertone.pretraining.settings import Pretraining
from undertone.training.unlabelled import unlabelled_corpus

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance

SHORTEST = 0.2  # seconds: a few frames to see and a few to hide


@dataclass(frozen=True)
class Speech:
    """What is trained on."""

    utterances: tuple[Utterance, ...]  # each audio once, with ids that are unique over the corpora
    corpora: tuple[str, ...]  # their names
    notes: tuple[str, ...]  # what was excluded, and why


def read_speech(settings: Pretraining, trusted: Path | None, display: Display) -> Speech:
    """Prepare every corpus and leave out the test speakers of the folds that `settings` names.

    Args:
        settings: corpora, roots, folds, protocol, transductive.
        trusted: folder with what earlier runs know of unchanged files; None: every file is read.
        display: where progress is shown.

    Raises:
        ValueError: a corpus whose folds test every speaker, without a fold to exclude; a fold that is not there; no
            speech left.
    """
    found: dict[str, Utterance] = {}
    names, notes = [], []
    wanted = list(settings.fold)
    for place, given in enumerate(settings.corpora):
        corpus = unlabelled_corpus(given)
        root = settings.roots[place] if settings.roots else None
        manifest = prepare_corpus(corpus, root or None, display, trusted=trusted).manifest
        name = corpus.name if corpus.name not in names else f"{corpus.name}-{place + 1}"
        names.append(name)
        kept, note = _allowed(name, corpus, manifest, wanted, settings)
        notes += [note] if note else []
        for item in kept:
            if item.duration >= SHORTEST:
                found.setdefault(item.audio_hash, replace(item, id=f"{name}/{item.id}", corpus=name))
    if wanted:
        raise ValueError(f"No corpus has the fold {wanted[0]!r}. Write FOLD, or CORPUS:FOLD with one of {names}.")
    if len(found) < 2:
        raise ValueError(f"There are {len(found)} utterances to train on. Give more audio.")
    return Speech(tuple(found.values()), tuple(names), tuple(notes))


def _allowed(
    name: str, corpus: Corpus, manifest: Manifest, wanted: list[str], settings: Pretraining
) -> tuple[Sequence[Utterance], str]:
    """The utterances of a corpus that may be used, and what was excluded; folds that it has are taken off `wanted`."""
    everything = list(manifest)
    if all(item.speaker is None and item.split is None for item in everything):
        return everything, ""  # no folds: a run that tests one of these files refuses the upstream
    folds = {fold.name: fold for fold in corpus.folds(manifest, settings.protocol, None, settings.seed)}
    named = [one for one in wanted if one.removeprefix(f"{name}:") in folds]
    if not named and len(folds) == 1:
        chosen = next(iter(folds.values()))
    elif not named:
        if settings.transductive:
            return everything, f"{name}: all speakers, those of the test folds too (transductive)"
        example = f"{name}:{next(iter(folds))}"
        raise ValueError(
            f"Every speaker of {name} is a test speaker of one of its {len(folds)} folds. Give --fold {example} to "
            f"exclude those of one fold ({', '.join(list(folds)[:8])}, ...) and to score that one, or --transductive "
            f"to use all and have every score marked.{nearest(wanted[0], folds) if wanted else ''}"
        )
    else:
        wanted.remove(named[0])
        chosen = folds[named[0].removeprefix(f"{name}:")]
    if settings.transductive:
        raise ValueError("--transductive uses all speakers and --fold excludes some. Give one of them.")
    kept = _without_test(chosen, everything)
    return kept, f"{name}: {len(everything) - len(kept)} utterances of the test speakers of fold {chosen.name} excluded"


def _without_test(fold: Fold, everything: Sequence[Utterance]) -> list[Utterance]:
    test = set(fold.test)
    speakers = {item.speaker for item in everything if item.id in test} - {None}
    return [item for item in everything if item.id not in test and item.speaker not in speakers]
