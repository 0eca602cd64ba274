"""A resumed run whose inputs have changed since its start is refused, and says what has changed."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from undertone.common.console import Display
from undertone.common.files import read_json, write_json
from undertone.experiments.open_run import open_run
from undertone.experiments.run import Run
from undertone.tests.cli.runs import rows_of, write_table
from undertone.training.settings import make_config

HEAD = """
from torch import nn
from undertone.downstream.head import Head, HeadOutput, TaskOutputs
class Mine(Head):
    def __init__(self, input_sizes, tasks):
        super().__init__(input_sizes, tasks)
        self.outputs = TaskOutputs(next(iter(input_sizes.values())), tasks)
    def forward(self, streams):
        vector = self.only_stream(streams).features.mean(1)
        return HeadOutput(self.outputs(vector), vector)
"""


def opened(table: Path, out: Path, *words: str) -> Run:
    config = make_config({"corpus": str(table)}, ["protocol=speaker", f"store={out.parent / 'store'}", *words])
    return open_run(config, out, Display(quiet=True))


def edited(table: Path, *rows: dict[str, str]) -> None:
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_corrected_labels_added_and_removed_rows_are_named(small_corpus: Path, tmp_path: Path) -> None:
    table, out = Path(write_table(tmp_path / "table.csv", rows_of(small_corpus))), tmp_path / "run"
    opened(table, out)
    assert not opened(table, out).warnings
    with table.open() as file:
        rows = list(csv.DictReader(file))
    corrected = [row | ({"emotion": "surprised"} if number == 3 else {}) for number, row in enumerate(rows)]
    for now, said in (
        (corrected, r"emotion of 1 utterance \(.*\) of the corpus changed"),
        (rows[1:], r"gone from the corpus, though the files exist: 1 utterance"),
    ):
        edited(table, *now)
        with pytest.raises(ValueError, match=said) as refused:
            opened(table, out)
        assert f"with another --out or after deleting {out}" in str(refused.value)
    edited(table, *rows)
    opened(table, out)  # as it was, it goes on
    edited(table, *corrected)
    shutil.rmtree(out)  # one of the ways out works
    opened(table, out)


def test_other_code_and_versions_are_refused_or_said(small_corpus: Path, tmp_path: Path) -> None:
    head, out = tmp_path / "my_head.py", tmp_path / "run"
    head.write_text(HEAD)
    opened(small_corpus, out, f"head={head}")
    head.write_text(HEAD + "# changed\n")
    with pytest.raises(ValueError, match=f"the code of {head} has changed"):
        opened(small_corpus, out, f"head={head}")
    head.write_text(HEAD)
    started = read_json(out / "started.json")

    def with_version(**versions: str) -> None:
        write_json(out / "started.json", started | {"versions": started["versions"] | versions})

    with_version(torch="1.0")
    with pytest.raises(ValueError, match=r"torch was 1\.0, is "):
        opened(small_corpus, out, f"head={head}")
    with_version(datasets="1.0", torch=started["versions"]["torch"] + "+cu999")  # another device's build is none
    (note,) = opened(small_corpus, out, f"head={head}").warnings
    assert note.endswith("started with 1.0")
    (out / "started.json").unlink()
    assert "did not record its inputs" in opened(small_corpus, out, f"head={head}").warnings[-1]


def test_a_start_that_failed_is_none(small_corpus: Path, tmp_path: Path) -> None:
    table, out = Path(write_table(tmp_path / "table.csv", rows_of(small_corpus))), tmp_path / "run"
    with pytest.raises(ValueError, match="Task 'mood'"):
        opened(table, out, "tasks=mood")
    with table.open() as file:
        rows = [row | {"mood": "good" if number % 2 else "bad"} for number, row in enumerate(csv.DictReader(file))]
    edited(table, *rows)
    assert opened(table, out, "tasks=mood").tasks[0].labels == ("bad", "good")
