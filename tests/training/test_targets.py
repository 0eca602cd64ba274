"""Tasks and targets: a column of the user's own is that column, whatever its name; useless labels are said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Manifest
from undertone.downstream.task import Task, free_name
from undertone.inference.write import as_csv
from undertone.scoring.predictions import Predictions
from undertone.training.targets import choose_tasks, label_warnings, reading_notes, targets

NAMES = ("value", "label", "duration", "error", "file", "id", "path", "select", "extra", "overlap", "size", "keys")


def make(emotions: list[Any], **own: list[Any]) -> Manifest:
    return Manifest.from_rows(
        "toy",
        [
            {"id": f"u{row}", "path": "x.wav", "emotion": emotion, "duration": 9.0, "size": 7}
            | {"extra": {name: values[row] for name, values in own.items()}}
            for row, emotion in enumerate(emotions)
        ],
    )


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_column_of_the_users_own(name: str, tmp_path: Path) -> None:
    manifest = make(["sad"] * 4, **{name: ["x", "y", None, "y"]})
    manifest.save(tmp_path)
    manifest = Manifest.load(tmp_path)
    (task,) = choose_tasks(manifest, [name], {})
    assert task.labels == ("x", "y") and targets(task, list(manifest)).tolist() == [0, 1, -1, 1]
    assert manifest.select(["u0"])[0].with_label(name, "y").label(name) == "y"
    (task,) = choose_tasks(make(["sad"] * 2, **{name: [0.5, 0.1]}), [name], {})
    assert task.kind == "regression"


@pytest.mark.parametrize("name", ["duration", "id", "value", "size"])
def test_a_field_is_no_label(name: str) -> None:
    with pytest.raises(ValueError, match=f"Task '{name}': The manifest has no label '{name}'"):
        choose_tasks(make(["sad", "angry"]), [name], {})


@pytest.mark.parametrize(
    "tasks",
    [
        [Task(name, "classification", ("a", "b")) for name in ("id", "fold", "speaker", "gender", "id_true")],
        [Task("x", "classification", ("predicted", "true")), Task("x_true", "classification", ("a", "b"))],
        [Task("x", "classification", ("y", "y_")), Task("x_y", "regression", ("x_y",))],
    ],
)
def test_no_column_of_predictions_overwrites_another(tasks: list[Task], tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    made = Predictions(
        tuple(tasks),
        ids=["1", "2", "3"],
        folds=["f"] * 3,
        speakers=["s"] * 3,
        genders=[None] * 3,
        scores={task.name: draw.random((3, task.num_outputs), dtype=np.float32) for task in tasks},
        targets={
            task.name: np.array([0, -1, 1]) if task.has_classes else np.array([0.5, np.nan, 2], np.float32)
            for task in tasks
        },
    )
    made.save(tmp_path / "p.parquet")
    loaded = Predictions.load(tmp_path / "p.parquet")
    assert loaded.tasks == made.tasks and loaded.ids == made.ids
    for task in tasks:
        np.testing.assert_array_equal(loaded.scores[task.name], made.scores[task.name])
        np.testing.assert_array_equal(loaded.targets[task.name], made.targets[task.name])


def test_no_column_of_a_prediction_overwrites_another() -> None:
    assert free_name("error", "error", "error_") == "error__" and free_name("x", "y") == "x"
    entry = {"label": "b", "scores": {"b": 1.0}}
    text = as_csv([{"file": "f.wav", "duration": 1.0, "a": entry, "a_b": entry}])
    assert text.splitlines() == [
        "file,duration,a,a_b,a_b_,a_b__b,no_speech,error",
        "f.wav,1.000000,b,1.000000,b,1.000000,,",
    ]


def test_classes_tested_and_never_trained() -> None:
    manifest = make(["sad", "sad", "angry", "happy", None, "sad"], level=["1", "2", "1", "2", "1", None])
    folds = [Fold("one", ("u0", "u1"), ("u2",), ("u3", "u5")), Fold("two", ("u3", "u2"), ("u4",), ("u0",))]
    tasks = choose_tasks(manifest, ["emotion"], {})
    assert label_warnings(tasks, folds, manifest) == [
        "emotion 'happy' is tested but never trained in fold one: always wrong there.",
        "emotion 'sad' is tested but never trained in fold two: always wrong there.",
        "dev has one class only of emotion in fold one: it cannot tell good models from bad.",
        "dev has no label of emotion in fold two: it cannot tell good models from bad.",
    ]
    assert label_warnings(tasks, folds, manifest, inner=True) == label_warnings(tasks, folds, manifest)[:2]
    joined = [Fold("one", ("u0",), ("u3", "u2"), ("u5", "u3"))]
    assert label_warnings(tasks, joined, manifest) != label_warnings(tasks, joined, manifest, inner=True) == []
    assert label_warnings(tasks, [Fold("f", ("u0", "u2", "u3"), ("u1", "u2"), ("u5",))], manifest) == []


def test_whole_numbers_say_what_they_were_taken_for() -> None:
    manifest = make(["1", "2", "1"], words=["1", "2", "1"], numbers=[1, 2.0, 3], decimals=[0.5, 1, 2])
    tasks = choose_tasks(manifest, ["emotion", "words", "numbers", "decimals"], {})
    assert reading_notes(tasks, manifest) == [
        "words (1, 2) is read as classes. If these are values, write numbers.",
        "numbers (1, 3, 2.0) is read as values. If these are classes, write words, such as level1.",
    ]
