"""Mean teacher and pseudo-labels on the command line: what unlabelled speech changes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from undertone.corpora.synthetic import Synthetic
from undertone.tests.cli.commands import undertone
from undertone.tests.cli.runs import LAST, Train, distance

WORDS = ("upstream=mfcc", "head=linear", "tasks=emotion", "max_steps=8", "learning_rate=0.01")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of speakers that are not in the corpus."""
    folder = tmp_path_factory.mktemp("speech")
    list(Synthetic(seed=5, num_speakers=2, per_emotion=1).rows(folder))
    return folder


def test_mean_teacher_is_the_weight_of_the_consistency(trained: Train, speech: Path) -> None:
    plain = trained(*WORDS, LAST)
    weak, strong = (trained(*WORDS, LAST, f"unlabelled={speech}", f"mean_teacher={weight}") for weight in (1e-6, 50))
    assert distance(plain, weak) > 1e-4, "the average of the weights is the model"
    assert distance(weak, strong) > 1e-5


def test_pseudo_labels_are_the_precision_on_dev_of_what_is_trained_on(
    trained: Train, small_corpus: Path, speech: Path, store: Path, tmp_path: Path
) -> None:
    words = (*WORDS, "eval_every=2", f"unlabelled={speech}", "pseudo_labels=0.26")
    assert distance(trained(*words), trained(*WORDS, "eval_every=2")) > 1e-5
    told = undertone("train", small_corpus, *words, "device=cpu", "--store", store, "--out", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.name in ("without-pseudo-labels", "checkpoints")]
    assert told.status == 0 and "of 8 unlabelled utterances have a pseudo-label (probability >=" in told.err


def test_what_cannot_be_together(small_corpus: Path, speech: Path, tmp_path: Path) -> None:
    for words, problem in (
        (
            ("mean_teacher=5", "mode=finetune", "upstream=a/b"),
            "mean_teacher averages the weights of layer sum and head",
        ),
        (("pseudo_labels=0.5", "mean_teacher=1"), "at a time, got mean_teacher=1 and pseudo_labels=0.5. Leave all but"),
        (("pseudo_labels=0.9", "head=svm"), "Head 'svm' is fitted by a solver, not by gradients: pseudo_labels=0.9"),
    ):
        outcome = undertone("train", small_corpus, *words, f"unlabelled={speech}", "--out", tmp_path / "run")
        assert outcome.fails_with(problem), outcome.err


@pytest.mark.parametrize("method", ["mean_teacher=5", "pseudo_labels=0.9"])
def test_a_method_needs_speech_and_there_is_one_at_a_time(
    small_corpus: Path, speech: Path, tmp_path: Path, method: str
) -> None:
    alone = undertone("train", small_corpus, method, "--out", tmp_path / "run")
    assert alone.fails_with("learns from speech without labels: add --unlabelled FOLDER")
    both = undertone("train", small_corpus, method, "--ladder", "--unlabelled", speech, "--out", tmp_path / "run")
    assert both.fails_with(f"One method for unlabelled speech at a time, got ladder=true and {method}. Leave")
