"""What each command writes and prints."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from undertone.corpora.manifest import Manifest
from undertone.tests.cli.commands import TINY, files_of, finish, start, undertone
from undertone.tests.cli.runs import distance, model_config, results, rows_of, write_table

FOLDS = ["F1", "F2", "M1", "M2"]
LONG = ("head.hidden_size=8", "batch_size=8", "max_steps=20", "eval_every=10", "patience=100", "device=cpu")


@pytest.fixture(scope="module")
def sounds(small_corpus: Path) -> list[Path]:
    return [Path(row["file"]) for row in rows_of(small_corpus)[:3]]


def test_prepare_prints_a_table_and_writes_the_manifest(small_corpus: Path, tmp_path: Path) -> None:
    outcome = undertone("prepare", small_corpus, "--out", tmp_path / "manifest")
    assert outcome.status == 0
    for row in (r"utterances +│ 64", r"skipped +│ 0", r"speakers +│ 4", r"gender +│ female 32, male 32"):
        assert re.search(row, outcome.out), row
    manifest = Manifest.load(tmp_path / "manifest")
    assert len(manifest) == 64
    assert {Path(path) for path in manifest.column("path")} == {Path(row["file"]) for row in rows_of(small_corpus)}
    for name in ("audio_hash", "size", "mtime_ns"):
        assert None not in manifest.column(name)


def test_results_have_the_keys_that_others_read(finished: Path) -> None:
    found = results(finished)
    wanted = {"corpus", "upstream", "head", "protocol", "speaker_independent", "folds", "mean", "pooled", "ci95"}
    assert wanted <= set(found)
    assert [fold["name"] for fold in found["folds"]] == FOLDS
    classification = {"uar", "wa", "macro_f1", "ece"}
    for scores in (*(fold["metrics"] for fold in found["folds"]), found["mean"], found["pooled"]):
        assert set(scores) == {"emotion", "gender"}
        assert all(classification <= set(metrics) for metrics in scores.values())
    for task, intervals in found["ci95"].items():
        low, high = intervals["uar"]
        assert low is None or low <= found["pooled"][task]["uar"] <= high


def test_a_run_keeps_predictions_config_model_and_folds(finished: Path, small_corpus: Path) -> None:
    table = pq.read_table(finished / "predictions.parquet")
    ids = table["id"].to_pylist()
    assert len(ids) == len(set(ids)) == 64
    assert {Path(name).name for name in ids} == {Path(row["file"]).name for row in rows_of(small_corpus)}
    assert table["fold"].to_pylist() == table["speaker"].to_pylist()  # each speaker is tested in the fold without it
    assert json.loads((finished / "config.json").read_text())["batch_size"] == 16
    assert sorted(path.name for path in (finished / "folds").iterdir() if path.is_dir()) == FOLDS
    for fold in FOLDS:
        files = {path.name for path in (finished / "folds" / fold).iterdir()}
        assert {"fold.json", "history.json", "predictions.parquet", "model"} <= files
        assert not files & {"checkpoints", "best"}
    assert model_config(finished)["trained_on"]["speakers"] == FOLDS
    assert not (finished / "refit").exists()
    assert not [path for path in finished.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".py", ".tmp")]


def test_a_finished_run_is_shown_again_and_nothing_is_trained(finished: Path, small_corpus: Path, store: Path) -> None:
    before = files_of(finished)
    again = undertone("crossval", small_corpus, "--out", finished, "--store", store, *TINY)
    changed = {path.name for path, time in files_of(finished).items() if before.get(path) != time}
    assert again.status == 0 and "fold F1 (" not in again.err and changed <= {"config.json"}
    assert "Pooled" in again.out and f"undertone report {finished}" in again.out


def test_a_fold_that_another_process_holds_is_left_to_it(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    (tmp_path / "folds").mkdir()
    words = ("crossval", small_corpus, "--out", tmp_path, "--store", store, *TINY)
    with FileLock(tmp_path / "folds" / "F2.lock"):
        outcome = undertone(*words)
        assert outcome.status == 0 and "Another process is busy with F2 and will write the results." in outcome.err
        trained = [path.parent.name for path in tmp_path.glob("folds/*/fold.json")]
        assert sorted(trained) == ["F1", "M1", "M2"] and not (tmp_path / "results.json").exists()
        train = undertone("train", *words[1:], "--fold", "F2")
        assert train.fails_with(f"Another process trains fold F2 in {tmp_path}. Wait, or choose another --out.")
    outcome = undertone(*words)
    assert re.findall(r"^fold (\w+)", outcome.err, re.MULTILINE) == ["F2"]
    assert [fold["name"] for fold in results(tmp_path)["folds"]] == FOLDS


@pytest.mark.slow
def test_two_processes_share_the_folds(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    words = ("crossval", small_corpus, f"store={store}", *LONG)
    outcomes = [finish(process) for process in [start(*words, "--out", tmp_path / "both") for _ in range(2)]]
    assert [outcome.status for outcome in outcomes] == [0, 0], outcomes
    said = "".join(outcome.err for outcome in outcomes)
    assert sorted(re.findall(r"^fold (\w+) .*: \d+/\d+", said, re.MULTILINE)) == FOLDS
    assert len(re.findall(r"^model of all speakers", said, re.MULTILINE)) == 1
    alone = undertone(*words, "--out", tmp_path / "alone")
    assert alone.status == 0 and distance(tmp_path / "alone", tmp_path / "both") == 0
    for key in ("mean", "pooled", "ci95"):
        assert results(tmp_path / "alone")[key] == results(tmp_path / "both")[key]


def test_train_trains_the_fold_that_is_named(small_corpus: Path, store: Path, finished: Path, tmp_path: Path) -> None:
    words = (small_corpus, "--out", tmp_path, "--store", store, *TINY)
    outcome = undertone("train", *words, "--fold", "M1")
    assert outcome.status == 0 and [path.name for path in tmp_path.glob("folds/*/")] == ["M1"]
    (only,) = results(tmp_path)["folds"]
    assert only["metrics"] == next(fold for fold in results(finished)["folds"] if fold["name"] == "M1")["metrics"]
    assert len(model_config(tmp_path)["trained_on"]["speakers"]) == 2  # one tests, one is dev


@pytest.mark.slow
def test_crossval_goes_on_from_a_train(small_corpus: Path, store: Path, finished: Path, tmp_path: Path) -> None:
    words = (small_corpus, "--out", tmp_path, "--store", store, *TINY)
    assert undertone("train", *words).status == 0
    outcome = undertone("crossval", *words)
    assert re.findall(r"^fold (\w+)", outcome.err, re.MULTILINE) == FOLDS[1:]
    assert results(tmp_path)["pooled"] == results(finished)["pooled"]
    assert distance(tmp_path, finished) == 0


def test_without_out_a_run_is_named_for_what_it_is(
    small_corpus: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert undertone("train", small_corpus, "--store", store, "--upstream", "mfcc", *TINY).status == 0
    assert (tmp_path / "runs" / "table-mfcc-attention" / "results.json").is_file()


def test_evaluate_on_speakers_of_the_training_says_so(finished: Path, small_corpus: Path, tmp_path: Path) -> None:
    outcome = undertone(
        "evaluate", finished, small_corpus, "--out", tmp_path / "same", "--json", tmp_path / "same.json"
    )
    assert outcome.status == 0 and "SPEAKER-DEPENDENT" in outcome.out
    assert "note: the model was trained on speakers F1, F2, M1, M2 of this corpus" in outcome.out
    assert json.loads((tmp_path / "same.json").read_text())["speaker_independent"] is False


def test_evaluate_scores_what_the_fold_scored(finished: Path, small_corpus: Path, tmp_path: Path) -> None:
    """A fold's model, given its test speaker alone, has that fold's scores."""
    table = write_table(tmp_path / "f1.csv", [row for row in rows_of(small_corpus) if row["speaker"] == "F1"])
    outcome = undertone(
        "evaluate", finished / "folds" / "F1" / "model", table, "--out", tmp_path / "f1", "--json", tmp_path / "f1.json"
    )
    assert outcome.status == 0 and "Speaker-independent" in outcome.out, outcome.err
    found, wanted = json.loads((tmp_path / "f1.json").read_text()), results(finished)["folds"][0]["metrics"]
    for metric in ("uar", "wa", "macro_f1"):
        assert found["pooled"]["emotion"][metric] == pytest.approx(wanted["emotion"][metric])


def test_an_evaluation_is_reported_and_compared_with_the_run(
    finished: Path, small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = undertone("evaluate", finished, small_corpus)
    out = Path("runs") / f"{finished.name}-on-{small_corpus.stem}"
    assert outcome.status == 0 and str(out / "results.json") in outcome.out, outcome.err
    assert undertone("report", out).status == 0 and "undertone evaluate" in (out / "report.html").read_text()
    compared = undertone("compare", finished, out)
    assert compared.status == 0 and "cannot be told from chance" in compared.out, compared.err


def test_a_model_that_was_moved_predicts_the_same(finished: Path, sounds: list[Path], tmp_path: Path) -> None:
    shutil.copytree(finished / "model", tmp_path / "elsewhere")
    moved = undertone("predict", tmp_path / "elsewhere", *sounds, "--json")
    assert moved.status == 0 and moved.out == undertone("predict", finished, *sounds, "--json").out


def test_report_writes_a_page_of_its_own(finished: Path) -> None:
    outcome = undertone("report", finished)
    assert outcome.status == 0 and outcome.out.strip() == f"report {finished / 'report.html'}"
    page = (finished / "report.html").read_text()
    uar = f"{100 * results(finished)['pooled']['emotion']['uar']:.1f}"
    assert uar in page and "http://" not in page and "<script" not in page


def test_every_command_has_help() -> None:
    listed = undertone("--help").out
    commands = ["quickstart", "prepare", "train", "crossval", "evaluate", "predict", "report", "push", "list"]
    assert all(command in listed for command in commands)
    for command in commands:
        outcome = undertone(command, "--help")
        assert outcome.status == 0 and f"undertone {command}" in outcome.out


def test_push_refuses_a_name_that_is_none(finished: Path) -> None:
    assert undertone("push", finished, "no-slash").fails_with("user/name")
