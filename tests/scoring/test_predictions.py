from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from undertone.downstream.task import Task
from undertone.scoring.predictions import Predictions

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
GENDER = Task("gender", "classification", ("female", "male"))
AROUSAL = Task("arousal", "regression", ("arousal",), weight=0.5)


def three() -> Predictions:
    return Predictions(
        tasks=(EMOTION, GENDER, AROUSAL),
        ids=["a", "b", "c"],
        folds=["one", "one", "two"],
        speakers=["03", None, "08"],
        genders=["male", "female", None],
        scores={
            "emotion": np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.4, 0.4, 0.2]], np.float32),
            "gender": np.array([[0.4, 0.6], [0.9, 0.1], [0.5, 0.5]], np.float32),
            "arousal": np.array([[0.25], [0.5], [0.75]], np.float32),
        },
        targets={
            "emotion": np.array([0, 1, -1]),
            "gender": np.array([1, 0, -1]),
            "arousal": np.array([0.5, np.nan, 1.0], np.float32),
        },
    )


def same(first: Predictions, second: Predictions) -> None:
    for name in ("tasks", "ids", "folds", "speakers", "genders"):
        assert getattr(first, name) == getattr(second, name)
    for task in first.tasks:
        np.testing.assert_array_equal(first.scores[task.name], second.scores[task.name])
        np.testing.assert_array_equal(first.targets[task.name], second.targets[task.name])
        assert first.scores[task.name].dtype == second.scores[task.name].dtype
        assert first.targets[task.name].dtype == second.targets[task.name].dtype


def test_known_and_predicted() -> None:
    predictions = three()
    assert len(predictions) == 3
    assert predictions.known(EMOTION).tolist() == [True, True, False]
    assert predictions.known(AROUSAL).tolist() == [True, False, True]
    assert predictions.predicted(EMOTION).tolist() == [0, 2, 0]  # the first of equals
    assert predictions.predicted(AROUSAL).tolist() == [0.25, 0.5, 0.75]


def test_saved_predictions_come_back_equal(tmp_path: Path) -> None:
    three().save(tmp_path / "predictions.parquet")
    same(Predictions.load(tmp_path / "predictions.parquet"), three())
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]


def test_saved_columns_read_without_us(tmp_path: Path) -> None:
    three().save(tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet").to_pydict()
    assert list(table) == [
        *("id", "fold", "speaker", "gender"),
        *("emotion", "emotion_predicted", "emotion_angry", "emotion_happy", "emotion_sad"),
        *("gender_true", "gender_predicted", "gender_female", "gender_male"),
        *("arousal", "arousal_predicted"),
    ]
    assert table["emotion"] == ["angry", "happy", None]
    assert table["emotion_predicted"] == ["angry", "sad", "angry"]
    assert table["arousal"] == [0.5, None, 1.0]
    assert table["gender"] == ["male", "female", None]
    assert table["emotion_sad"] == pytest.approx([0.1, 0.8, 0.2])


def test_no_utterances_are_saved_too(tmp_path: Path) -> None:
    none = three().select(np.zeros(3, bool))
    none.save(tmp_path / "p.parquet")
    same(Predictions.load(tmp_path / "p.parquet"), none)


def test_select_and_concat_are_inverse() -> None:
    predictions = three()
    parts = [predictions.select(np.array([True, True, False])), predictions.select(np.array([2]))]
    assert [len(part) for part in parts] == [2, 1]
    same(Predictions.concat(parts), predictions)
    assert predictions.select(np.array([2, 0])).ids == ["c", "a"]


def test_concat_refuses_nothing_and_other_tasks() -> None:
    with pytest.raises(ValueError, match="got no predictions"):
        Predictions.concat([])
    other = replace(three(), tasks=(replace(EMOTION, labels=("happy", "angry", "sad")), GENDER, AROUSAL))
    with pytest.raises(ValueError, match="same tasks, with the same labels"):
        Predictions.concat([three(), other])


def changed(name: str, task: str, value: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    return {name: {**getattr(three(), name), task: value}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speakers": ["03"]}, "3 ids, but 1 speakers"),
        ({"tasks": (EMOTION, GENDER)}, r"need scores and targets of exactly these.*'arousal'"),
        (changed("scores", "emotion", np.zeros((3, 2), np.float32)), r"'emotion': expected scores of shape \(3, 3\)"),
        (changed("targets", "gender", np.zeros(2, np.int64)), r"'gender': expected .* targets of shape \(3,\)"),
        (changed("targets", "emotion", np.array([0, 3, 1])), r"-1 \(missing\) or 0\.\.2"),
        (changed("scores", "arousal", np.array([[1], [np.nan], [np.inf]])), "2 of 3 .*first: 'b'.*smaller"),
    ],
)
def test_what_does_not_fit_is_a_sentence(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(three(), **change)


def test_two_columns_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    """A label called `predicted`: its column and that of the predictions are both read back."""
    task = replace(EMOTION, labels=("angry", "happy", "predicted"))
    saved = replace(three(), tasks=(task, GENDER, AROUSAL))
    saved.save(tmp_path / "p.parquet")
    read = Predictions.load(tmp_path / "p.parquet")
    np.testing.assert_array_equal(read.scores["emotion"], saved.scores["emotion"])
    np.testing.assert_array_equal(read.targets["emotion"], saved.targets["emotion"])


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    with pytest.raises(FileNotFoundError):
        Predictions.load(path)
    path.write_text("not parquet")
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        Predictions.load(path)
    three().save(path)
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    with pytest.raises(ValueError, match="its schema has no tasks"):
        Predictions.load(path)
