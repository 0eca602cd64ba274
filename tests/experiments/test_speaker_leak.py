"""A split as found in the wild, every speaker on both sides: refused; allowed, it is branded wherever scores stand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from undertone.common.console import Display
from undertone.corpora.folds import LeakError
from undertone.experiments.crossval import crossval
from undertone.publish.card import make_card
from undertone.report.report import write_report
from undertone.scoring.results import results_table
from undertone.training.settings import make_config

QUIET = Display(quiet=True)
TINY = ("max_epochs=1", "head.hidden_size=8", "batch_size=16", "device=cpu")


@pytest.fixture
def leaked(small_corpus: Path, tmp_path: Path) -> Path:
    """A table whose column split goes through the utterances of each speaker in turn."""
    rows = list(csv.DictReader(small_corpus.open()))
    table = tmp_path / "leaked.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "split"])
        writer.writeheader()
        writer.writerows(
            row | {"split": ("train", "train", "dev", "test")[number % 4]} for number, row in enumerate(rows)
        )
    return table


def test_refused_by_default(leaked: Path, tmp_path: Path) -> None:
    with pytest.raises(
        LeakError, match=r"Fold 'split': train and dev share 4 speakers: leaked/F1, leaked/F2, .*allow_leak"
    ):
        crossval(make_config({"corpus": str(leaked)}, TINY), tmp_path / "run", QUIET)
    assert not (tmp_path / "run" / "results.json").exists()


def test_allowed_and_branded_in_results_report_and_card(leaked: Path, tmp_path: Path) -> None:
    config = make_config({"corpus": str(leaked)}, [*TINY, "allow_leak=true", f"store={tmp_path / 'store'}"])
    crossval(config, tmp_path / "run", QUIET)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["speaker_independent"] is False
    assert any("train and test share 4 speakers: leaked/F1" in line for line in results["warnings"])
    assert any(line.startswith("SPEAKER-DEPENDENT") for line in results_table(results)[0])
    report = write_report(tmp_path / "run").read_text()
    assert '<li class="warn">SPEAKER-DEPENDENT' in report
    card = make_card(tmp_path / "run" / "model", results, "user/name")
    assert "- SPEAKER-DEPENDENT: " in card and "- speaker-dependent" in card and "(speaker-dependent)" in card


def test_allowing_a_leak_brands_no_fold_that_has_none(small_corpus: Path, tmp_path: Path) -> None:
    words = [*TINY, "allow_leak=true", "protocol=speaker", f"store={tmp_path / 'store'}"]
    results = crossval(make_config({"corpus": str(small_corpus)}, words), tmp_path / "run", QUIET)
    assert results is not None and results["speaker_independent"] is True
