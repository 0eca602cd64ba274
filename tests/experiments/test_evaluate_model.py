"""A model on another corpus: labels in its words, and some of them alone."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from undertone.common.console import Display
from undertone.common.files import read_json
from undertone.corpora.manifest import Utterance
from undertone.downstream.model import UndertoneModel
from undertone.downstream.task import Task
from undertone.experiments.crossval import train
from undertone.experiments.evaluate_model import evaluate_model, parse_labels, relabel, restrict
from undertone.publish.collect import _without_speakers
from undertone.report.report import write_report
from undertone.scoring.compare import compare_runs
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import score
from undertone.training.settings import make_config

QUIET = Display(quiet=True)
EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))


@pytest.fixture(scope="module")
def model(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> UndertoneModel:
    out = tmp_path_factory.mktemp("trained")
    words = ["protocol=speaker", "max_epochs=3", "head.hidden_size=8", "batch_size=16", "device=cpu"]
    train(make_config({"corpus": str(small_corpus)}, [*words, f"store={out / 'store'}"]), out / "run", display=QUIET)
    return UndertoneModel.from_pretrained(out / "run" / "model")


@pytest.fixture
def elsewhere(small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """The same audio as another corpus, with other words for the emotions and other speakers."""
    monkeypatch.setattr("undertone.experiments.hidden_states.STORE", tmp_path / "store")

    def write(words: dict[str, str]) -> Path:
        rows = list(csv.DictReader(small_corpus.open()))
        table = tmp_path / "other.csv"
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["file", "speaker", "emotion"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(
                row | {"emotion": words.get(row["emotion"], row["emotion"]), "speaker": f"x{row['speaker']}"}
                for row in rows
            )
        return table

    return write


def evaluate(model: UndertoneModel, table: Path, **options: Any) -> dict[str, Any]:
    return evaluate_model(model, str(table), None, "cpu", QUIET, **options)


def test_a_map_gives_the_scores_of_the_models_own_words(model: UndertoneModel, elsewhere: Any) -> None:
    own = evaluate(model, elsewhere({}))
    mapped = evaluate(model, elsewhere({"happy": "joy", "sad": "grief"}), label_map={"joy": "happy", "grief": "sad"})
    assert mapped["pooled"] == own["pooled"] and mapped["confusion"] == own["confusion"]
    assert mapped["label_map"] == {"joy": "happy", "grief": "sad"}
    assert mapped["warnings"] == ["labels mapped: joy as happy, grief as sad"] and own["warnings"] == []


def test_without_a_map_strange_labels_are_not_scored_and_said(model: UndertoneModel, elsewhere: Any) -> None:
    results = evaluate(model, elsewhere({"happy": "joy"}))
    assert results["warnings"] == ["not scored, the model has no such emotion: joy (16)"]
    assert results["pooled"]["emotion"]["num"] == 48
    every = {"angry": "ire", "happy": "joy", "neutral": "calm", "sad": "grief"}
    with pytest.raises(ValueError, match=r"No utterance of 'other' has a label that the model knows .*--map CORPUS"):
        evaluate(model, elsewhere(every))


def test_some_labels_alone(model: UndertoneModel, elsewhere: Any) -> None:
    results = evaluate(model, elsewhere({}), labels=("sad", "angry"))
    assert results["tasks"][0]["labels"] == ["angry", "sad"] and results["pooled"]["emotion"]["num"] == 32
    assert results["chance"]["emotion"]["uar"] == 0.5 and np.array(results["confusion"]["emotion"]).shape == (2, 2)
    assert results["warnings"] == ["emotion: only sad, angry are scored and predicted"]


def test_an_evaluation_is_kept_reported_and_compared(
    model: UndertoneModel, small_corpus: Path, elsewhere: Any, tmp_path: Path
) -> None:
    table, out = elsewhere({}), tmp_path / "evaluation"
    results = evaluate(model, table, out=out, command="undertone evaluate RUN other.csv")
    assert read_json(out / "results.json") == results and results["upstream_weights"] == "none"
    predictions = Predictions.load(out / "predictions.parquet")
    assert score(predictions)["emotion"]["uar"] == results["pooled"]["emotion"]["uar"]
    assert set(predictions.folds) == {"all"} and set(predictions.speakers) == {"xF1", "xF2", "xM1", "xM2"}
    page = write_report(out).read_text("utf-8")
    assert "undertone evaluate RUN other.csv" in page and "All settings" not in page
    again = evaluate(model, table, out=out)  # in the same folder
    entry = compare_runs([out, out])["tasks"]["emotion"][0]
    assert entry["difference"] == 0 and again["pooled"] == results["pooled"]
    with pytest.raises(ValueError, match="is not empty and holds no evaluation. Choose another --out"):
        evaluate(model, table, out=small_corpus.parent)


def test_a_published_model_knows_its_training_speakers_by_hash(
    model: UndertoneModel, small_corpus: Path, elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.config, "trained_on", _without_speakers(model.config.trained_on))
    assert not {"F1", "M1"} & set(str(model.config.trained_on).split("'"))
    assert evaluate(model, elsewhere({}))["speaker_independent"] is True
    known = evaluate(model, small_corpus)
    assert known["speaker_independent"] is False
    assert re.match(r"the model was trained on speakers [FM]\d, [FM]\d of this corpus", known["warnings"][-1])


def test_several_labels_may_become_one(model: UndertoneModel, elsewhere: Any) -> None:
    results = evaluate(model, elsewhere({"happy": "joy"}), label_map={"joy": "angry", "sad": "angry"})
    assert np.array(results["confusion"]["emotion"]).sum(axis=1).tolist() == [48, 0, 16, 0]


def test_the_training_speakers_are_known_again(model: UndertoneModel, small_corpus: Path, elsewhere: Any) -> None:
    assert evaluate(model, elsewhere({}))["speaker_independent"] is True
    assert evaluate(model, small_corpus)["speaker_independent"] is False


def test_speakers_of_the_users_own_data_are_the_same_by_label_and_unknown_ones_may_be(
    model: UndertoneModel, small_corpus: Path, elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, table = list(csv.DictReader(small_corpus.open())), small_corpus.parent / "again.csv"

    def write(*columns: str) -> Path:
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        return table

    again = evaluate(model, write("file", "speaker", "emotion"))  # as a test.csv beside a train.csv
    assert again["speaker_independent"] is False
    assert re.match(r"the model was trained on speakers [FM]\d, [FM]\d of this corpus", again["warnings"][-1])
    nameless = evaluate(model, write("file", "emotion"))
    assert nameless["speaker_independent"] is False
    assert nameless["warnings"] == [
        "it is not known whether the model was trained on these speakers: test utterances have none"
    ]
    monkeypatch.setitem(model.config.trained_on, "unknown_speakers", 3)
    assert evaluate(model, elsewhere({}))["warnings"][-1].endswith("training utterances have none")
    monkeypatch.setitem(model.config.trained_on, "corpora", ["emodb"])  # whose speakers nobody else has
    assert evaluate(model, table)["speaker_independent"] is True


def test_soft_labels_are_scored_by_votes_or_by_labels(
    model: UndertoneModel, small_corpus: Path, elsewhere: Any
) -> None:
    own = evaluate(model, elsewhere({}))
    model.save_pretrained(small_corpus.parent / "soft")
    soft = UndertoneModel.from_pretrained(small_corpus.parent / "soft")
    soft.tasks = (replace(soft.tasks[0], kind="distribution"), *soft.tasks[1:])
    assert evaluate(soft, elsewhere({}))["pooled"] == own["pooled"]  # no votes there
    table = small_corpus.parent / "voted.csv"
    rows = list(csv.DictReader(small_corpus.open()))
    for row in rows:
        word = {"happy": "joy"}.get(row["emotion"], row["emotion"])
        row |= {"votes": f"{word}:2;neutral:1" if word != "neutral" else "neutral:3", "emotion": ""}
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "votes"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    voted = evaluate(soft, table, label_map={"joy": "happy"})
    assert voted["pooled"]["emotion"] == own["pooled"]["emotion"]
    some = evaluate(soft, table, label_map={"joy": "happy"}, labels=("happy", "sad"))
    assert some["pooled"]["emotion"]["num"] == 32


def utterances(*labels: str | None) -> list[Utterance]:
    return [Utterance(str(number), "x", emotion=label, extra={"mood": label}) for number, label in enumerate(labels)]


def test_relabel_fields_and_columns_of_the_users_own() -> None:
    rows = utterances("joy", None, "sad")
    assert [u.emotion for u in relabel(rows, EMOTION, {"joy": "happy"})] == ["happy", None, "sad"]
    mood = replace(EMOTION, name="mood")
    assert [u.extra["mood"] for u in relabel(rows, mood, {"joy": "happy"})] == ["happy", None, "sad"]
    assert rows[0].emotion == "joy" and rows[0].extra == {"mood": "joy"}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"jo": "happy"}, r"--map jo=happy: the corpus has no emotion 'jo'\. Did you mean 'joy'\? Known: joy, sad\."),
        ({"joy": "hapy"}, r"--map joy=hapy: the model has no emotion 'hapy'\. Did you mean 'happy'"),
        ({"happy": "joy"}, r"the corpus has no emotion 'happy'\. Is it the other way round\?"),
    ],
)
def test_unknown_labels_of_a_map(mapping: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        relabel(utterances("joy", "sad"), EMOTION, mapping)


def test_reading_the_labels() -> None:
    assert parse_labels("angry, happy,") == ("angry", "happy")


def test_restriction_by_hand() -> None:
    predictions = Predictions(
        tasks=(EMOTION,),
        ids=["a", "b", "c", "d"],
        folds=["all"] * 4,
        speakers=[None] * 4,
        genders=[None] * 4,
        scores={"emotion": np.array([[0.2, 0.7, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4], [1, 0, 0]], np.float32)},
        targets={"emotion": np.array([0, 2, 1, -1])},
    )
    fewer = restrict(predictions, EMOTION, ("sad", "angry"))
    np.testing.assert_allclose(
        fewer.scores["emotion"], [[2 / 3, 1 / 3], [1 / 4, 3 / 4], [3 / 7, 4 / 7], [1, 0]], rtol=1e-6
    )
    assert fewer.targets["emotion"].tolist() == [0, 1, -1, -1] and fewer.tasks[0].labels == ("angry", "sad")
    assert score(fewer)["emotion"]["uar"] == 1.0
    with pytest.raises(ValueError, match="the model has no emotion 'angri'. Did you mean 'angry'"):
        restrict(predictions, EMOTION, ("angri", "sad"))
    with pytest.raises(ValueError, match="needs two labels or more of angry, happy, sad; got angry"):
        restrict(predictions, EMOTION, ("angry",))
