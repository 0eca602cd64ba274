"""Several processes that train one model give what one process gives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from undertone.tests.cli.commands import finish, start, undertone
from undertone.tests.cli.runs import distance, results, rows_of, write_table

# As README says: with --cpu it starts one process, whatever --num_processes says.
LAUNCH = (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")
LAUNCH += ("--main_process_port", "0", "-m", "undertone.cli")
WORDS = ("tasks=emotion,arousal", "head.hidden_size=8", "batch_size=7", "max_epochs=1", "device=cpu")


def test_two_processes_give_what_one_gives(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    """Batches of 7 are uneven over two processes, and the last holds 4 of 32 utterances, or 1 of 64.

    Dropout is on: its masks are the utterances'.
    Some labels are missing, so that the processes' counts differ; CCC goes through the batch of both processes.
    """
    rows = rows_of(small_corpus)
    for row in rows[::5]:
        row["emotion"] = ""
    for number, row in enumerate(rows):
        row["arousal"] = f"{(number * 7 % 11) / 10}" if number % 4 else ""
    words = ("crossval", write_table(tmp_path / "gaps.csv", rows), "protocol=speaker", *WORDS)

    one = undertone(*words, f"store={store}", "--out", tmp_path / "one")
    two = finish(start(*words, f"store={tmp_path / 'store'}", "--out", tmp_path / "two", command=LAUNCH))
    assert one.status == 0 and two.status == 0, (one.err, two.err)
    assert len(list((tmp_path / "store").rglob("*.safetensors"))) == 2  # each process put its share there
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-4
    assert results(tmp_path / "two")["cost"]["refit_steps"] == results(tmp_path / "one")["cost"]["refit_steps"]
    for task, metrics in results(tmp_path / "one")["mean"].items():
        assert results(tmp_path / "two")["mean"][task] == pytest.approx(metrics, abs=1e-4), task
    assert two.err.count("fold F1 (1/4): ") == 1  # one process speaks for both
