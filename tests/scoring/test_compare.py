from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from undertone.common.files import read_json, write_json
from undertone.downstream.task import Task
from undertone.report.compare_page import write_comparison
from undertone.scoring.compare import HEADER, compare_runs, comparison_table, holm, narrow_table, paired
from undertone.scoring.predictions import Predictions

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
AROUSAL = Task("arousal", "regression", ("arousal",))


def predictions(seed: int, skill: float, tasks: tuple[Task, ...] = (EMOTION, AROUSAL)) -> Predictions:
    truth, said = np.random.default_rng(0), np.random.default_rng([seed, 1])
    target, arousal = truth.integers(0, 3, 80), truth.random(80).astype(np.float32)
    scores = said.dirichlet([1, 1, 1], 80) + skill * np.eye(3)[target]
    everything = Predictions(
        tasks=(EMOTION, AROUSAL),
        ids=[f"u{i:02}" for i in range(80)],
        folds=[f"fold{i % 2}" for i in range(80)],
        speakers=[f"<s{i % 10}>" for i in range(80)],
        genders=[None] * 80,
        scores={
            "emotion": (scores / scores.sum(1, keepdims=True)).astype(np.float32),
            "arousal": (arousal * skill + said.normal(0.3, 0.2, 80)).astype(np.float32)[:, None],
        },
        targets={"emotion": target, "arousal": arousal},
    )
    names = [task.name for task in tasks]
    return replace(
        everything,
        tasks=tasks,
        scores={name: everything.scores[name] for name in names},
        targets={name: everything.targets[name] for name in names},
    )


def write_run(folder: Path, found: Predictions, **info: object) -> Path:
    results = {"corpus": "emodb", "upstream": "fbank", "head": "attention", "manifest_hash": "ab12"}
    results |= {"folds": [], "pooled": {}}
    write_json(folder / "results.json", results | {"protocol": "speaker", "speaker_independent": True} | info)
    found.save(folder / "predictions.parquet")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [write_run(tmp_path / f"run{seed}", predictions(seed, skill)) for seed, skill in enumerate((0.2, 0.2, 0.7))]


def test_each_run_is_compared_with_the_first(runs: list[Path]) -> None:
    comparison = compare_runs(runs)
    first, *others = [Predictions.load(run / "predictions.parquet") for run in runs]
    for task in (EMOTION, AROUSAL):
        entries = comparison["tasks"][task.name]
        assert [entry["run"] for entry in entries] == [1, 2]
        for entry, other in zip(entries, others, strict=True):
            assert entry["p"] == paired(first, other, task).p
            assert entry["difference"] == pytest.approx(entry["value"] - entry["baseline"])
        assert [entry["p_holm"] for entry in entries] == holm([entry["p"] for entry in entries])
    better = comparison["tasks"]["emotion"][1]
    assert better["p_holm"] < 0.05
    assert better["ci95"][0] > 0


def test_the_table_says_it_all(runs: list[Path]) -> None:
    comparison = compare_runs(runs)
    titles, header, rows = comparison_table(comparison)
    assert titles[0] == "emodb: 3 runs on the same 80 test utterances in the same folds; differences from run0"
    assert "jackknife over speakers, Student's t; the interval excludes 0 exactly when p < 0.05" in titles[-1]
    assert "Holm: p adjusted for the 2 comparisons per task" in titles[-1]
    sizes = [f"{100 * entry['detectable']:.1f}" for entry in comparison["tasks"]["emotion"]]
    assert titles[1:3] == [
        f"emotion, run{i}: With these 10 speakers a difference under {sizes[i - 1]} points cannot be told from chance."
        for i in (1, 2)
    ]
    assert titles[3].startswith("arousal, run1: With these 10 speakers a difference under 0.")
    assert " in CCC cannot be told" in titles[3]
    assert header == HEADER
    assert [row[:3] for row in rows[:3]] == [["emotion", "UAR", f"run{i}"] for i in range(3)]
    entry = comparison["tasks"]["emotion"][1]
    low, high = (f"{100 * end:+.1f}" for end in entry["ci95"])
    assert rows[2][3:6] == [f"{100 * entry['value']:.1f}", f"{100 * entry['difference']:+.1f}", f"{low} – {high}"]
    assert rows[2][6:] == [f"{entry['p']:.4f}", f"{entry['p_holm']:.4f}"]


def test_the_table_for_the_terminal_is_narrow(runs: list[Path]) -> None:
    _, header, rows = narrow_table(compare_runs(runs))
    assert (
        header == HEADER[2:] and rows[0] == ["UAR of emotion", *[""] * 5] and rows[4] == ["CCC of arousal", *[""] * 5]
    )
    widths = [max(len(row[column]) for row in [header, *rows]) + 3 for column in range(1, 6)]
    assert sum(widths) + 4 <= 80 - 17  # characters are left for a run's name
    _, header, rows = narrow_table(compare_runs(runs[:2]))
    assert header == HEADER[2:-1] and [row[0] for row in rows[:3]] == ["UAR of emotion", "run0", "run1"]


def test_an_evaluation_is_compared_with_a_run_on_the_same_utterances(runs: list[Path], tmp_path: Path) -> None:
    found = predictions(5, 0.3)
    found = replace(found, folds=["all"] * len(found))
    evaluation = write_run(tmp_path / "evaluation", found, protocol="evaluate")
    comparison = compare_runs([runs[0], evaluation])
    run = Predictions.load(runs[0] / "predictions.parquet")
    assert comparison["tasks"]["emotion"][0]["p"] == paired(run, found, EMOTION).p
    titles = comparison_table(comparison)[0]
    assert titles[0] == "emodb: 2 runs on the same 80 test utterances; differences from run0"
    assert titles[1].startswith(
        "DIFFERENT TRAINING DATA: an evaluation tests one model, a cross-validation one model per fold."
    )
    both = comparison_table(compare_runs([evaluation, evaluation]))[0]
    assert not any("DIFFERENT TRAINING" in line for line in both)
    part = write_run(tmp_path / "part", found.select(np.arange(30)), protocol="evaluate")
    with pytest.raises(ValueError, match="they test 80 and 30 utterances, 30 of which are the same"):
        compare_runs([runs[0], part])
    target = found.targets["emotion"]
    mapped = replace(found, targets=found.targets | {"emotion": np.where(target == 2, 0, target)})
    other = write_run(tmp_path / "mapped", mapped, protocol="evaluate")
    with pytest.raises(ValueError, match=rf"cannot be compared: {(target == 2).sum()} labels of emotion differ"):
        compare_runs([runs[0], other])


def test_two_speakers_decide_nothing_and_that_is_said(runs: list[Path], tmp_path: Path) -> None:
    two = []
    for seed, skill in enumerate((0.2, 0.9)):
        found = predictions(seed, skill)
        two.append(write_run(tmp_path / f"two{seed}", replace(found, speakers=[f"s{i % 2}" for i in range(80)])))
    comparison = compare_runs(two)
    titles, _, rows = comparison_table(comparison)
    assert rows[1][5:] == ["–", "–", "–"] and rows[1][4].startswith("+")
    assert titles[1] == "No interval for emotion: 2 test speakers cannot show how speakers vary; at least 3 are needed."
    page = write_comparison(comparison, tmp_path / "out").read_text("utf-8")
    assert titles[1] in page and "nan" not in page.lower()


def test_a_run_and_itself(runs: list[Path]) -> None:
    entry = compare_runs([runs[0], runs[0]])["tasks"]["emotion"][0]
    assert (entry["difference"], entry["p"], entry["p_holm"], entry["ci95"]) == (0.0, 1.0, 1.0, [0.0, 0.0])


def test_only_common_tasks_are_compared(runs: list[Path], tmp_path: Path) -> None:
    alone = write_run(tmp_path / "alone", predictions(5, 0.3, (AROUSAL,)))
    assert list(compare_runs([runs[0], alone])["tasks"]) == ["arousal"]
    over_time = write_run(tmp_path / "series", predictions(5, 0.3, (replace(AROUSAL, level="frame"),)))
    with pytest.raises(ValueError, match="no task in common"):
        compare_runs([alone, over_time])
    emotion = write_run(tmp_path / "emotion", predictions(5, 0.3, (EMOTION,)))
    with pytest.raises(ValueError, match=r"no task in common: .*alone has arousal \(regression\); .* has emotion"):
        compare_runs([alone, emotion])


def test_runs_that_were_not_tested_alike_are_refused(runs: list[Path], tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", predictions(5, 0.3), manifest_hash="cd34")
    with pytest.raises(ValueError, match=r"other cannot be compared: their manifests differ \(ab12 and cd34\)"):
        compare_runs([runs[0], other])
    found = predictions(5, 0.3)
    moved = write_run(tmp_path / "moved", replace(found, folds=["fold1", *found.folds[1:]]))
    with pytest.raises(ValueError, match="moved cannot be compared: their folds differ"):
        compare_runs([runs[0], moved])
    part = write_run(tmp_path / "part", found.select(np.array(found.folds) == "fold0"))
    with pytest.raises(ValueError, match=r"folds differ \(fold0, fold1; and fold0\)"):
        compare_runs([runs[0], part])
    (runs[1] / "results.json").unlink()
    with pytest.raises(ValueError, match="run1 is not a finished run"):
        compare_runs(runs)
    with pytest.raises(ValueError, match="needs two or more runs, got 1"):
        compare_runs(runs[:1])


def test_page_and_json_are_written(runs: list[Path], tmp_path: Path) -> None:
    comparison = compare_runs(runs)
    html = write_comparison(comparison, tmp_path / "out").read_text("utf-8")
    assert html.count("speakers a difference under") == 8  # four comparisons, at the top and beside each picture
    assert read_json(tmp_path / "out" / "compare.json") == comparison
    assert html.count("&lt;s3&gt;") == 4  # two tasks, two runs; names are escaped
    assert "<s3>" not in html
    assert "<script" not in html and "http" not in html
    for row in comparison_table(comparison)[2]:
        assert f">{row[3]}</td>" in html


def test_speaker_dependent_runs_say_so(runs: list[Path], tmp_path: Path) -> None:
    leaky = write_run(tmp_path / "leaky", predictions(3, 0.3), speaker_independent=False)
    assert comparison_table(compare_runs([runs[0], leaky]))[0][1].startswith("SPEAKER-DEPENDENT: ")


def test_another_division_of_the_same_training_speakers_is_said(runs: list[Path], tmp_path: Path) -> None:
    assert not any("DIFFERENT TRAINING DATA" in line for line in comparison_table(compare_runs(runs))[0])
    other = write_run(tmp_path / "superb", predictions(3, 0.3), protocol="superb")
    comparison = compare_runs([runs[0], other])
    assert comparison_table(comparison)[0][1].startswith(
        "DIFFERENT TRAINING DATA: speaker and superb have the same test parts"
    )
    assert '<li class="warn">DIFFERENT TRAINING DATA' in write_comparison(comparison, tmp_path / "out").read_text(
        "utf-8"
    )
