"""Ways in, on the command line: corpus options, folders, prepared manifests, splits, other corpora's labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from undertone.tests.cli.commands import TINY, undertone
from undertone.tests.cli.runs import Train, rows_of, write_table


def test_prepare_takes_corpus_options_and_its_manifest_is_a_corpus(tmp_path: Path, trained: Train) -> None:
    words = (
        "corpus.num_speakers=3",
        "corpus.per_emotion=2",
        "--root",
        tmp_path / "made",
        "--out",
        tmp_path / "manifest",
    )
    outcome = undertone("prepare", "synthetic", *words)
    assert outcome.status == 0 and "(24 utterances)" in outcome.out, outcome.err
    run = trained(corpus=tmp_path / "manifest")
    assert json.loads((run / "results.json").read_text())["num_speakers"] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "synthetic", "corpus.num_speaker=3"], "has no option 'num_speaker'. Did you mean 'num_speakers'"),
        (["prepare", "synthetic", "seed=3"], "Expected corpus.NAME=value, got 'seed=3'"),
        (["prepare", "synthetic", "corpus.seed=x"], "needs seed >= 0"),
        (["prepare", "iemocap", "corpus.labels=6class"], "iemocap has no labels=6class. Did you mean '5class'"),
        (["prepare", "table"], "'table' is not a corpus by itself. Give FILE.csv / .tsv"),
        (
            ["crossval", "synthetic", "protocol=speakers"],
            "synthetic has no protocol 'speakers'. Did you mean 'speaker'",
        ),
        (["crossval", "iemocap", "protocol=superp"], "iemocap has no protocol 'superp'. Did you mean 'superb'"),
    ],
)
def test_wrong_options(words: list[str], message: str, tmp_path: Path) -> None:
    assert undertone(*words, "--root", tmp_path, "--out", tmp_path / "out").fails_with(message)


def test_check_split(small_corpus: Path, tmp_path: Path) -> None:
    rows = rows_of(small_corpus)
    women = write_table(tmp_path / "women.csv", [row for row in rows if row["gender"] == "female"])
    men = write_table(tmp_path / "men.csv", [row for row in rows if row["gender"] == "male"])
    half = write_table(tmp_path / "half.csv", rows[::2])
    clean = undertone("check-split", women, men)
    assert clean.status == 0 and "Nothing is shared: no speaker, no audio, no sentence." in clean.out
    assert "note: 32 of 32 utterances of train have no sentence and are not compared by it." in clean.out
    leaked = undertone("check-split", women, half)
    assert leaked.status == 1 and "Nothing" not in leaked.out
    assert "2 shared speakers, in 32 utterances of train and 16 of test: F1, F2" in leaked.out
    assert "16 shared recordings" in leaked.out
    assert undertone("check-split", women, tmp_path / "gone.csv").fails_with("No such table")


def test_crosscorpus_takes_corpora_and_settings(tmp_path: Path) -> None:
    for words, message in (
        (["emodb"], "needs two corpora or more, got emodb: undertone crosscorpus A B C"),
        (["emodb", "nemo", "protocol=speaker"], "crosscorpus has protocols of its own"),
        (["emodb", "nemoo"], "Did you mean 'nemo'"),
        (["emodb", "nemo", "--root", tmp_path], "gives 1 folders for 2 corpora"),
        (["emodb", "nemo", "corpus.map=calm"], "corpus.map needs LABEL=LABEL"),
    ):
        assert undertone("crosscorpus", *words, "--out", tmp_path / "out").fails_with(message), message


def test_evaluate_with_a_map_and_some_labels(trained: Train, small_corpus: Path, tmp_path: Path) -> None:
    rows = [row | {"emotion": row["emotion"].replace("happy", "joy")} for row in rows_of(small_corpus)]
    table = write_table(tmp_path / "other.csv", rows)
    out = tmp_path / "scores.json"
    words = (
        "--map",
        "joy=happy",
        "--labels",
        "happy,angry",
        "--device",
        "cpu",
        "--json",
        out,
        "--out",
        tmp_path / "scores",
    )
    outcome = undertone("evaluate", trained(), table, *words)
    assert outcome.status == 0, outcome.err
    assert (
        "note: labels mapped: joy as happy" in outcome.out
        and "emotion: only happy, angry are scored and predicted" in outcome.out
    )
    results = json.loads(out.read_text())
    assert results["tasks"][0]["labels"] == ["angry", "happy"] and results["pooled"]["emotion"]["num"] == 32
    turned = undertone(
        "evaluate", trained(), table, "--map", "happy=joy", "--device", "cpu", "--out", tmp_path / "turned"
    )
    assert turned.fails_with("the corpus has no emotion 'happy'. Is it the other way round?")


def test_a_leak_is_refused_and_allowed_by_flag(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    rows = [row | {"split": ("train", "dev", "test")[number % 3]} for number, row in enumerate(rows_of(small_corpus))]
    words = ("crossval", write_table(tmp_path / "leaked.csv", rows), "--out", tmp_path / "run", "--store", store, *TINY)
    assert undertone(*words).fails_with("Fold 'split': train and dev share 4 speakers: leaked/F1")
    allowed = undertone(*words, "--allow-leak")
    assert allowed.status == 0 and "SPEAKER-DEPENDENT: test speakers may be in training" in allowed.out, allowed.err


def test_describe_prints_a_table_and_writes_a_page(small_corpus: Path, tmp_path: Path) -> None:
    outcome = undertone("describe", small_corpus, "--out", tmp_path / "page")
    assert outcome.status == 0, outcome.err
    assert "4, with 16 each" in outcome.out and f"page {tmp_path / 'page' / 'describe.html'}" in outcome.out
    facts = json.loads((tmp_path / "page" / "describe.json").read_text())
    assert facts["labels"]["sad"] == {"female": 8, "male": 8, "all": 16}
    page = (tmp_path / "page" / "describe.html").read_text()
    assert page.count("<svg") == 3 and "Labels by gender" in page and "http" not in page.replace("http-equiv", "")


def test_prepare_writes_other_formats(small_corpus: Path, tmp_path: Path) -> None:
    words = ("--out", tmp_path / "m", "--to-dataset", tmp_path / "set", "--to-audformat", tmp_path / "db")
    outcome = undertone("prepare", small_corpus, *words)
    assert outcome.status == 0, outcome.err
    assert f"dataset {tmp_path / 'set'}" in outcome.out and f"audformat {tmp_path / 'db'}" in outcome.out
    assert (tmp_path / "set" / "data" / "train-00000.parquet").is_file() and (tmp_path / "db" / "db.yaml").is_file()
    table = write_table(tmp_path / "t.csv", [row | {"corpus": "iemocap"} for row in rows_of(small_corpus)])
    refused = undertone("prepare", table, "--out", tmp_path / "m", "--push-dataset", "user/name")
    assert refused.fails_with("iemocap may not be published by you: its licence is 'USC SAIL release form")
