"""`undertone ablate`: every row a run, published and ours in columns of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from undertone.recipes.ablation import Row, ablation_table
from undertone.tests.cli.commands import undertone

MINE = """
from undertone.recipes.ablation import Row
SYSTEM = {"upstream": "mfcc", "head": "linear", "head_options": {"hidden_size": 4}, "tasks": ("emotion",)}
ABLATION = (Row("plain"), Row("wide", ("head.hidden_size=8",), "UAR 50.0 (memory)"), Row("theirs", None, "UAR 99"))
"""
TINY = ("max_epochs=2", "protocol=groups", "num_folds=2", "device=cpu")


@pytest.fixture
def system(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


def cells(text: str, name: str) -> list[str]:
    row = next(line for line in text.splitlines() if line.startswith(f"│ {name}"))
    return [cell.strip() for cell in row.strip("│").split("│")]


def test_rows_run_once_and_stay_blank_where_they_did_not(
    system: Path, small_corpus: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undertone.commands.terminal.console.width", 200)
    words = ("ablate", system, small_corpus, f"store={store}", *TINY, "--out", tmp_path / "out")
    outcome = undertone(*words, "--rows", "plain")
    assert outcome.status == 0, outcome.err
    assert cells(outcome.out, "wide") == ["wide", "UAR 50.0 (memory)", *[""] * 6]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["plain"]
    plain = tmp_path / "out" / "plain" / "results.json"
    before = plain.stat().st_mtime_ns
    outcome = undertone(*words, "head.hidden_size=6")  # what makes a row wins over what all rows have
    assert outcome.status == 2 and "holds a run with other settings" in outcome.err
    outcome = undertone(*words)
    assert outcome.status == 0 and plain.stat().st_mtime_ns == before
    results = {name: json.loads((tmp_path / "out" / name / "results.json").read_text()) for name in ("plain", "wide")}
    for name, published in (("plain", ""), ("wide", "UAR 50.0 (memory)")):
        pooled, cost = results[name]["pooled"]["emotion"], results[name]["cost"]
        shown = cells(outcome.out, name)
        assert shown[:5] == [name, published, "emotion", f"{100 * pooled['uar']:.1f}", f"{100 * pooled['wa']:.1f}"]
        assert shown[6] == f"{cost['parameters']:,}"
        assert cost["training_seconds"] == pytest.approx(
            sum(fold["seconds"] for fold in results[name]["folds"]), abs=0.01
        )
    assert results["wide"]["cost"]["parameters"] > results["plain"]["cost"]["parameters"]
    assert cells(outcome.out, "theirs") == ["theirs", "UAR 99", *[""] * 6]


def test_what_cannot_be_ablated(system: Path, small_corpus: Path, tmp_path: Path) -> None:
    assert undertone("ablate", "superb", small_corpus).fails_with("System 'superb' has no ablation", "crnn", "li2019")
    for row in ("plan", "theirs"):
        outcome = undertone("ablate", system, small_corpus, "--rows", row, "--out", tmp_path / "none")
        assert outcome.fails_with(f"has no row '{row}' to run.", "Known: plain, wide")
    assert undertone("ablate", system, small_corpus, "sede=1").fails_with("Unknown setting 'sede'. Did you mean 'seed'")
    assert not (tmp_path / "none").exists()


def test_a_table_of_nothing_run() -> None:
    titles, header, rows = ablation_table([(Row("theirs", None, "UAR 99"), None)])
    assert header[:5] == ["Row", "Published", "Task", "Ours: UAR", "Ours: WA"]
    assert rows == [["theirs", "UAR 99", *[""] * 6]]
    assert "Published scores are those of the corpus" in titles[0]


def test_a_narrow_terminal_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    from undertone.commands.terminal import show

    name = "a-row-of-a-name-longer-than-its-column-is-wide"
    show((["title"], ["Row", *"abcdefgh"], [[name, *["123456789"] * 8]]))
    shown = capsys.readouterr().out
    column = [line.split("│")[1].strip() for line in shown.splitlines() if "│" in line]
    assert "…" not in shown and "".join(column) == name


def results(kind: str, *tasks: str, score: float) -> dict[str, Any]:
    metrics = {"ccc": score, "rmse": 0.1} if kind == "regression" else {"uar": score, "wa": score, "ece": 0.1}
    return {
        "tasks": [{"name": name, "kind": kind} for name in tasks],
        "pooled": {name: metrics for name in tasks},
        "ci95": {name: {"ccc": [0.1, 0.2], "uar": [0.1, 0.2]} for name in tasks},
        "cost": {"parameters": 1234, "training_seconds": 5.4},
        **{"corpus": "c", "upstream": "u", "head": "h", "protocol": "p", "folds": [{}], "speaker_independent": True},
        **{"ci_unit": "speaker", "ci_num_units": 9},
    }


def test_rows_may_have_tasks_of_their_own() -> None:
    one, three = results("regression", "valence", score=0.5), results("regression", "arousal", "valence", score=0.75)
    _, header, lines = ablation_table([(Row("stl", (), "CCC .4"), one), (Row("mtl"), three), (Row("more"), None)])
    assert header == ["Row", "Published", "Task", "Ours: CCC", "95 % interval", "Parameters", "Training"]
    assert lines == [
        ["stl", "CCC .4", "valence", "0.500", "0.100 – 0.200", "1,234", "5 s"],
        ["mtl", "", "arousal", "0.750", "0.100 – 0.200", "1,234", "5 s"],
        ["", "", "valence", "0.750", "0.100 – 0.200", "", ""],
        ["more", "", "", "", "", "", ""],
    ]
    both = results("classification", "emotion", score=0.5)
    _, header, lines = ablation_table([(Row("classes"), both), (Row("values"), one)])
    assert header[3:6] == ["Ours: UAR", "Ours: WA", "Ours: CCC"]
    assert [line[2:6] for line in lines] == [["emotion", "50.0", "50.0", ""], ["valence", "", "", "0.500"]]
