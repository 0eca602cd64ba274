"""Every setting of a loss does what it says; `tests/training/test_objective.py` has the numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from undertone.scoring.predictions import Predictions
from undertone.tests.cli.commands import TINY, undertone
from undertone.tests.cli.runs import LAST, Train, distance, fold, history, model_config, results, rows_of, write_table

ONE = ("tasks=emotion", "max_steps=1", "batch_size=64", "head.dropout=0")  # the loss of the weights as they are drawn

OWN_CORPUS = """
import csv
from undertone.corpora.corpus import Corpus

class Voted(Corpus):
    name = "voted"
    licence = url = citation = "own"

    def rows(self, root):
        with (root / "table.csv").open() as file:
            for row in csv.DictReader(file):
                others = {"angry": 2} if row["emotion"] == "happy" else {}
                fields = {name: row[name] for name in ("speaker", "gender", "emotion")}
                yield {"id": row["file"], "path": root / row["file"], **fields, "votes": {row["emotion"]: 3, **others}}
"""


def first_loss(run: Path) -> float:
    return history(run)[0]["train_loss"]


@pytest.mark.slow
def test_class_weights_balanced_lets_every_class_count_alike(
    small_corpus: Path, trained: Train, tmp_path: Path
) -> None:
    assert distance(trained("class_weights=balanced", LAST), trained(LAST)) < 1e-5  # as many of each emotion already
    rows = rows_of(small_corpus)
    few = [row for row in rows if row["emotion"] != "angry" or row["file"].endswith("01.wav")]
    uneven = write_table(tmp_path / "uneven.csv", [row | {"file": small_corpus.parent / row["file"]} for row in few])
    runs = [trained(*ONE, f"class_weights={choice}", corpus=uneven) for choice in ("none", "balanced")]
    assert abs(first_loss(runs[0]) - first_loss(runs[1])) > 1e-3


@pytest.mark.slow
def test_label_smoothing_keeps_the_loss_above_its_entropy(trained: Train) -> None:
    words = ("tasks=emotion", "lr=0.01", "max_epochs=20", "head.hidden_size=32", "head.dropout=0", "eval_every=5")
    entropy = -(0.85 * math.log(0.85) + 3 * 0.05 * math.log(0.05))  # 0.2 of the target over four classes
    smoothed, plain = (history(trained(*words, f"label_smoothing={share}"))[-1]["train_loss"] for share in (0.2, 0))
    assert plain < entropy < smoothed


def test_focal_gamma_takes_weight_from_what_is_right(trained: Train) -> None:
    """Near chance of four classes, (1 - p)^2 is about 9 / 16."""
    ratio = first_loss(trained(*ONE, "focal_gamma=2")) / first_loss(trained(*ONE))
    assert ratio == pytest.approx(9 / 16, abs=0.1)


@pytest.mark.slow
def test_regression_loss_mse_is_the_squared_error(trained: Train) -> None:
    words = ("tasks=arousal", "lr=0.01", "max_epochs=8")
    errors, concordance = history(trained(*words, "regression_loss=mse")), history(trained(*words))
    assert errors[-1]["train_loss"] < 0.3 * errors[0]["train_loss"]
    assert 0 < concordance[0]["train_loss"] < 2 and abs(concordance[0]["train_loss"] - errors[0]["train_loss"]) > 1e-3


@pytest.mark.slow
def test_task_weighting_uncertainty_learns_the_weights(trained: Train) -> None:
    """It begins with the losses of classes as they are, and half of those of values."""
    words = ("tasks=arousal,emotion", "max_steps=1", "batch_size=64", "head.dropout=0")
    fixed, learned = (first_loss(trained(*words, f"task_weighting={choice}")) for choice in ("fixed", "uncertainty"))
    arousal = first_loss(trained(*words, "task_weights.emotion=0"))
    assert learned == pytest.approx(fixed - arousal / 2, rel=1e-5)
    words = ("tasks=arousal,emotion", LAST)
    assert distance(trained(*words, "task_weighting=uncertainty"), trained(*words)) > 1e-5


def test_adversarial_columns_are_unlearned(trained: Train, small_corpus: Path, tmp_path: Path) -> None:
    run = trained("tasks=emotion", "adversarial=speaker", LAST)
    assert distance(run, trained("tasks=emotion", LAST)) > 1e-5
    assert [task["name"] for task in model_config(run)["tasks"]] == ["emotion"]
    probe = fold(run)["leakage"]["speaker"]
    assert 0 <= probe["uar"] <= 1 and probe["chance"] < 1
    assert "a new linear probe still predicts it" in (undertone("report", run).out + (run / "report.md").read_text())
    outcome = undertone("train", small_corpus, "--out", tmp_path / "run", *TINY, "adversarial=gender")
    assert outcome.fails_with("'gender' is a task and adversarial at once")


def test_the_corpus_can_be_unlearned_where_a_table_names_several(
    trained: Train, small_corpus: Path, tmp_path: Path
) -> None:
    where = {"F1": ("one", "train"), "M1": ("one", "dev"), "F2": ("two", "train"), "M2": ("two", "test")}
    rows = [
        row
        | {"file": small_corpus.parent / row["file"], "speaker": row["speaker"][0]}
        | dict(zip(("corpus", "split"), where[row["speaker"]], strict=True))
        for row in rows_of(small_corpus)
    ]  # speaker F of one corpus is not speaker F of the other
    table = write_table(tmp_path / "both.csv", rows)
    run = trained("tasks=emotion", "adversarial=corpus", LAST, corpus=table)
    assert distance(run, trained("tasks=emotion", LAST, corpus=table)) > 1e-5
    assert fold(run)["leakage"]["corpus"]["chance"] == 0.5
    assert results(run)["speaker_independent"] is True and results(run)["num_speakers"] == 4
    assert set(Predictions.load(run / "predictions.parquet").speakers) == {"two/M"}


@pytest.mark.slow
def test_adversarial_weight_is_the_strength_of_the_reversal(trained: Train) -> None:
    words = ("tasks=emotion", "adversarial=speaker", LAST)
    assert distance(trained(*words, "adversarial_weight=0"), trained("tasks=emotion", LAST)) == 0
    assert distance(trained(*words, "adversarial_weight=9"), trained(*words)) > 1e-5


def test_soft_labels_are_the_shares_of_the_votes(trained: Train, small_corpus: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "voted.py"
    corpus.write_text(OWN_CORPUS)
    words = ("tasks=emotion", f"root={small_corpus.parent}", "protocol=speaker")
    run = trained(*words, "soft_labels=true", corpus=corpus)
    assert [task["kind"] for task in model_config(run)["tasks"]] == ["distribution"]
    assert (
        results(run)["pooled"]["emotion"].keys() == results(trained(*words, corpus=corpus))["pooled"]["emotion"].keys()
    )
    assert distance(run, trained(*words, corpus=corpus)) > 1e-5
    outcome = undertone("predict", run / "model", small_corpus.parent / rows_of(small_corpus)[0]["file"], "--json")
    assert outcome.status == 0 and '"emotion"' in outcome.out
    outcome = undertone("train", small_corpus, "--out", tmp_path / "run", *TINY, "soft_labels=true")
    assert outcome.fails_with("soft_labels=true needs raters' votes, and this corpus has none")
