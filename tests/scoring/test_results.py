from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from undertone.downstream.task import Task
from undertone.scoring.intervals import confidence_intervals
from undertone.scoring.predictions import Predictions
from undertone.scoring.results import HEADER, only_fold, results_table, score, summarise, title_lines, to_json, verdict

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
AROUSAL = Task("arousal", "regression", ("arousal",))
INFO = {
    "corpus": "emodb",
    "upstream": "fbank",
    "head": "attention",
    "protocol": "speaker",
    "speaker_independent": True,
    "upstream_weights": "none",
    "seeds": [0],
}


def fold(name: str, speakers: list[str], skill: float = 0.6, size: int = 40) -> tuple[str, Predictions]:
    rng = np.random.default_rng([ord(letter) for letter in name])
    target = rng.integers(0, 3, size)
    target[:2] = -1
    scores = rng.dirichlet([1, 1, 1], size) + skill * np.eye(3)[target]
    arousal = rng.random(size).astype(np.float32)
    predictions = Predictions(
        tasks=(EMOTION, AROUSAL),
        ids=[f"{name}{i}" for i in range(size)],
        folds=[name] * size,
        speakers=[speakers[i % len(speakers)] for i in range(size)],
        genders=["female" if i % 3 else "male" for i in range(size)],
        scores={
            "emotion": (scores / scores.sum(1, keepdims=True)).astype(np.float32),
            "arousal": (arousal + rng.normal(0, 0.3, size)).astype(np.float32)[:, None],
        },
        targets={"emotion": target, "arousal": arousal},
    )
    return name, predictions


def four_folds() -> list[tuple[str, Predictions]]:
    return [fold(name, [f"{name}1", f"{name}2"]) for name in ("a", "b", "c", "d")]


def test_results_hold_every_promised_number() -> None:
    folds = four_folds()
    results = summarise(folds, INFO)
    pooled = Predictions.concat([predictions for _, predictions in folds])
    uars = [score(predictions)["emotion"]["uar"] for _, predictions in folds]
    assert INFO.items() <= results.items()
    assert [entry["name"] for entry in results["folds"]] == ["a", "b", "c", "d"]
    assert [entry["metrics"]["emotion"]["uar"] for entry in results["folds"]] == uars
    assert results["mean"]["emotion"]["uar"] == pytest.approx(sum(uars) / 4)
    assert results["std"]["emotion"]["uar"] == pytest.approx(np.std(uars, ddof=1))
    assert results["pooled"] == to_json(score(pooled))
    assert results["pooled"]["emotion"]["num"] == 4 * 38
    assert results["ci95"] == confidence_intervals(pooled)[0]
    assert (results["ci_unit"], results["ci_num_units"], results["ci_notes"]) == ("speaker", 8, [])
    assert set(results["per_gender"]) == {"female", "male"}
    assert results["tasks"] == [EMOTION.to_dict(), AROUSAL.to_dict()]


def test_confusion_and_chance_are_those_of_scikit_learn() -> None:
    folds = four_folds()
    results = summarise(folds, INFO)
    target = np.concatenate([predictions.targets["emotion"] for _, predictions in folds])
    guess = np.concatenate([predictions.scores["emotion"].argmax(1) for _, predictions in folds])
    target, guess = target[target >= 0], guess[target >= 0]
    assert results["confusion"] == {"emotion": sklearn_metrics.confusion_matrix(target, guess).tolist()}
    majority = sklearn_metrics.accuracy_score(target, np.full(len(target), np.bincount(target).argmax()))
    assert results["chance"] == {"emotion": {"uar": 1 / 3, "wa": majority}, "arousal": {"ccc": 0.0}}


def test_chance_is_over_the_classes_that_occur_as_the_uar_is() -> None:
    folds = four_folds()
    for _, predictions in folds:
        predictions.targets["emotion"][predictions.targets["emotion"] == 2] = -1
    results = summarise(folds, INFO)
    assert results["chance"]["emotion"]["uar"] == 1 / 2
    constant = [replace(found, scores={**found.scores, "emotion": np.eye(3)[[1] * 40]}) for _, found in folds]
    assert score(Predictions.concat(constant))["emotion"]["uar"] == 1 / 2


def test_results_survive_json_where_values_are_not_defined() -> None:
    name, predictions = fold("a", ["x"])
    predictions.targets["emotion"][:] = -1
    predictions.targets["arousal"][1:] = np.nan
    results = summarise([(name, predictions)], INFO)
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert results["mean"]["emotion"]["uar"] is None
    assert results["std"]["arousal"]["rmse"] is None
    assert results["ci95"]["emotion"]["uar"] == [None, None]
    assert results["pooled"]["emotion"]["recall"] == {"angry": None, "happy": None, "sad": None}
    titles, header, rows = results_table(results)
    assert rows[0] == ["emotion", "UAR", "–", "–", "33.3"]
    assert "not defined" in verdict(results)


def test_a_fold_without_labels_is_left_out_of_the_mean() -> None:
    folds = four_folds()
    folds[1][1].targets["emotion"][:] = -1
    results = summarise(folds, INFO)
    uars = [score(folds[i][1])["emotion"]["uar"] for i in (0, 2, 3)]
    assert results["folds"][1]["metrics"]["emotion"]["uar"] is None
    assert results["mean"]["emotion"]["uar"] == pytest.approx(np.mean(uars))
    assert results["std"]["emotion"]["uar"] == pytest.approx(np.std(uars, ddof=1))


def test_table_says_the_numbers_of_the_results() -> None:
    results = summarise(four_folds(), INFO)
    _, header, rows = results_table(results)
    assert header == HEADER
    assert results_table(summarise(four_folds()[:1], INFO))[1] == ["Task", "Metric", "Test", "95 % interval", "Chance"]
    assert [row[:2] for row in rows] == [
        *(["emotion", metric] for metric in ("UAR", "WA", "macro-F1", "ECE")),
        *(["arousal", metric] for metric in ("CCC", "RMSE")),
    ]
    mean, std, pooled = (100 * results[key]["emotion"]["uar"] for key in ("mean", "std", "pooled"))
    low, high = (100 * value for value in results["ci95"]["emotion"]["uar"])
    assert rows[0][2:] == [f"{mean:.1f} ± {std:.1f}", f"{pooled:.1f}", f"{low:.1f} – {high:.1f}", "33.3"]
    assert rows[3][4:] == ["–", "–"]  # ECE has neither an interval nor a chance level
    assert rows[4][3] == f"{results['pooled']['arousal']['ccc']:.3f}"
    assert rows[4][5] == "0.000"


def test_titles_say_what_the_results_are() -> None:
    results = summarise(four_folds(), INFO)
    assert title_lines(results) == [
        "emodb: upstream fbank, head attention, protocol speaker, 4 folds",
        "Speaker-independent: train, dev and test of a fold share no speaker.",
        "95 % intervals, for new speakers: jackknife over 8 speakers, Student's t. "
        "Pooled: all test utterances as one set. Fractions in %.",
    ]
    assert "dev shares speakers with train" in title_lines(results | {"dev_shares_speakers": True})[1]
    dependent = title_lines(results | {"speaker_independent": False, "dev_shares_speakers": True})
    assert dependent[1].startswith("SPEAKER-DEPENDENT: ")
    assert title_lines(results | {"upstream_weights": "random"})[2].startswith("RANDOM-WEIGHT UPSTREAM: fbank ")
    assert title_lines(results | {"split_fingerprint": "0f"})[2].startswith("Split fingerprint 0f, ")
    evaluated = title_lines(results | {"protocol": "evaluate"})
    assert evaluated[1] == "Speaker-independent: none of these speakers was in the model's training data."
    few = title_lines(summarise([fold("a", ["x", "y"])], INFO))
    assert few[0].endswith(", 1 fold")
    assert few[2].startswith("No interval for emotion: 2 test speakers cannot show how speakers vary; at least 3")
    assert few[-1] == "Fractions in %."
    earlier = {key: value for key, value in results.items() if key not in ("ci_method", "ci_notes")}
    assert title_lines(earlier)[-1].startswith(
        "95 % intervals: bootstrap over 8 speakers, by an earlier version and too narrow"
    )


def test_a_mean_over_folds_is_only_of_what_a_fold_has() -> None:
    """One gender a fold: a fold's macro-F1 is not the task's, nor is its UAR, which is one recall; its WA is."""
    gender = Task("gender", "classification", ("female", "male"))
    folds = []
    for place in range(6):
        target = np.full(10, place % 2)
        said = np.where(np.arange(10) < place, 1 - target, target)  # more and more are wrong
        found = Predictions(
            tasks=(gender,),
            ids=[f"u{place}{row}" for row in range(10)],
            folds=[f"s{place}"] * 10,
            speakers=[f"s{place}"] * 10,
            genders=[None] * 10,
            scores={"gender": np.eye(2, dtype=np.float32)[said]},
            targets={"gender": target},
        )
        folds.append((f"s{place}", found))
    results = summarise(folds, INFO)
    assert results["mean"]["gender"] == pytest.approx({"uar": None, "macro_f1": None, "wa": 0.75, "ece": 0.25})
    assert results["std"]["gender"]["macro_f1"] is None and results["std"]["gender"]["wa"] > 0
    assert results["pooled"]["gender"]["macro_f1"] == pytest.approx(0.7496, abs=1e-3)
    assert [row[2][0] for row in results_table(results)[2]] == ["–", "7", "–", "2"]
    results = summarise(four_folds(), INFO)
    assert results["mean"]["arousal"]["ccc"] is None and results["mean"]["arousal"]["rmse"] > 0
    assert results["folds"][0]["metrics"]["arousal"]["ccc"] > 0  # a fold's own is there to read
    assert summarise(four_folds()[:1], INFO)["mean"]["arousal"]["ccc"] > 0  # one fold is all there is


def test_a_verdict_without_an_interval_judges_nothing() -> None:
    text = verdict(summarise([fold("a", ["x", "y"])], INFO))
    assert ", without an interval; chance is 33.3 %." in text and "above" not in text


@pytest.mark.parametrize(("skill", "word"), [(0.6, "above"), (0.0, "not distinguishable from"), (-0.6, "below")])
def test_verdict_compares_with_chance(skill: float, word: str) -> None:
    folds = [fold(name, [f"{name}1", f"{name}2"], skill=max(skill, 0.0), size=60) for name in "abcd"]
    if skill < 0:  # never the true class
        for _, predictions in folds:
            wrong = np.where(predictions.targets["emotion"] == 0, 1, 0)
            wrong[:6] = predictions.targets["emotion"][:6]  # all wrong, all speakers would be alike
            predictions.scores["emotion"][:] = np.eye(3)[wrong]
    assert f", {word} chance (33.3 %)." in verdict(summarise(folds, INFO))


def test_what_is_missing_or_doubled_is_a_sentence() -> None:
    folds = four_folds()
    with pytest.raises(ValueError, match=r"one fold or more, each with a unique name, got \[\]"):
        summarise([], INFO)
    with pytest.raises(ValueError, match=r"unique name, got \['a', 'a'\]"):
        summarise([folds[0], folds[0]], INFO)
    with pytest.raises(ValueError, match="without head, protocol"):
        summarise(folds, {key: INFO[key] for key in ("corpus", "upstream", "speaker_independent")})
    with pytest.raises(ValueError, match="info must not hold mean"):
        summarise(folds, INFO | {"mean": {}})


def test_to_json() -> None:
    value = {1: (np.float32(0.5), np.int64(3), math.nan, -math.inf), "path": [np.array([[True]])], "none": None}
    assert to_json(value) == {"1": [0.5, 3, None, None], "path": [[[True]]], "none": None}


def test_results_can_be_written(tmp_path: Path) -> None:
    from undertone.common.files import read_json, write_json

    results = summarise(four_folds(), INFO)
    write_json(tmp_path / "results.json", results)
    assert read_json(tmp_path / "results.json") == results
    assert results_table(read_json(tmp_path / "results.json")) == results_table(results)


def test_the_only_fold_is_that_of_a_train() -> None:
    one, four = summarise([fold("a", ["x"])], INFO), summarise(four_folds(), INFO)
    assert only_fold(one) == "a" and only_fold(four) is None
    assert only_fold(one | {"cost": {"refit_steps": 3}}) is None  # a cross-validation over one split
