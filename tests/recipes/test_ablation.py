"""`undertone ablate`: every row a run, published and ours in columns of their own."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from undertone.commands.ablate import (
    ablation_rows,
    ablation_table,
    reasons_against,
    row_configs,
    run_ablation,
    why_not,
)
from undertone.common.console import Display
from undertone.common.discovery import options_of
from undertone.corpora.manifest import Manifest
from undertone.corpora.synthetic import Synthetic
from undertone.downstream.head import head_class
from undertone.experiments.hidden_states import prepare_from_config
from undertone.experiments.open_run import open_run
from undertone.recipes.systems import Row, available_systems, load_system, system_module
from undertone.tests.cli.commands import undertone
from undertone.training.config import RunConfig
from undertone.training.settings import make_config
from undertone.training.values import named_upstreams

MINE = """
from undertone.recipes.systems import Row
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
    words = ("ablate", system, small_corpus, f"store={store}", *TINY, "mixed_precision=auto", "--out", tmp_path / "out")
    outcome = undertone(*words, "--rows", "plain")
    assert outcome.status == 0, outcome.err
    assert cells(outcome.out, "wide") == ["wide", "UAR 50.0 (memory)", *[""] * 8]
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
        for place, metric in ((5, "uar"), (6, "wa")):
            folds = [100 * fold["metrics"]["emotion"][metric] for fold in results[name]["folds"]]
            assert shown[place] == f"{statistics.mean(folds):.1f} ± {statistics.stdev(folds):.1f}"
        assert shown[8] == f"{cost['parameters']:,}"
        assert cost["training_seconds"] == pytest.approx(
            sum(fold["seconds"] for fold in results[name]["folds"]), abs=0.01
        )
    assert results["wide"]["cost"]["parameters"] > results["plain"]["cost"]["parameters"]
    assert cells(outcome.out, "theirs") == ["theirs", "UAR 99", *[""] * 8]


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
    assert rows == [["theirs", "UAR 99", *[""] * 8]]
    assert "Published scores hold for the corpus" in titles[-1]


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
        "mean": {name: {"uar": score - 0.01, "wa": score + 0.01, "ccc": None} for name in tasks},
        "std": {name: {"uar": 0.02, "wa": None, "ccc": None} for name in tasks},
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
    assert header[3:8] == ["Ours: UAR", "Ours: WA", "Ours: CCC", "UAR over folds", "WA over folds"]
    assert [line[2:8] for line in lines] == [
        ["emotion", "50.0", "50.0", "", "49.0 ± 2.0", "51.0"],
        ["valence", "", "", "0.500", "", ""],
    ]


def test_what_a_probe_finds_is_a_column() -> None:
    plain = results("classification", "emotion", "gender", score=0.5)
    folds = [{"leakage": {"speaker": {"uar": value, "chance": 0.1}}} for value in (0.25, 0.35)]
    titles, header, lines = ablation_table([(Row("plain"), plain), (Row("adversary"), plain | {"folds": folds})])
    assert header[-1] == "Probe: speaker" and any(line.startswith("Probe: UAR (chance)") for line in titles)
    assert [line[-1] for line in lines] == ["", "", "30.0 (10.0)", ""] and len({len(line) for line in lines}) == 1


def test_the_adversaries_of_invariant_are_probed(like_emodb: Path, store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    with other.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "speaker", "emotion"])
        rows = Synthetic(seed=7, num_speakers=3, per_emotion=2).rows(tmp_path / "other")
        writer.writerows([row["path"], row["speaker"], row["emotion"]] for row in rows)
    words = (f"store={store}", "device=cpu", "protocol=groups", "num_folds=2", "max_epochs=1")
    found = run_ablation("invariant", f"{like_emodb}+{other}", words, tmp_path / "out", ["plain", "speaker"])
    _, header, lines = ablation_table(found.rows, found.left_out)
    assert header[-2:] == ["Probe: speaker", "Probe: corpus"]
    cells = {line[0]: line[-2:] for line in lines}
    assert all(cells["plain"]) and cells["speaker"][0] and not cells["speaker"][1]


ABLATED = [name for name in available_systems() if hasattr(system_module(name), "ABLATION")]
OPENSMILE = importlib.util.find_spec("opensmile") is not None


FORMS = [
    f"{name}:{variant}" if variant else name
    for name in ABLATED
    for variant in ("", *getattr(system_module(name), "VARIANTS", {}))
]
SAME = "with these settings it is the row 'all' again."


@pytest.mark.parametrize("form", FORMS)
def test_every_row_of_every_preset_starts_on_a_corpus_like_emodb(
    form: str, like_emodb: Path, store: Path, tmp_path: Path, offline: Callable[[RunConfig], RunConfig]
) -> None:
    """Each row opens its run, or is left out where labels are missing; every size of the preset runs the same rows.

    No two of a table are one: also where a row says nothing, or what the head does anyway.
    """
    name, _, variant = form.partition(":")
    words = (f"store={store}", "device=cpu", "protocol=groups", "num_folds=2")
    configs = {row: offline(config) for row, config in row_configs(form, str(like_emodb), words).items()}
    manifest = prepare_from_config(next(iter(configs.values()))).manifest
    reasons = reasons_against(ablation_rows(name), configs, lambda _: manifest)
    run = configs.keys() - reasons.keys()
    if form == "parthasarathy2020" and not OPENSMILE:  # all its rows are of openSMILE's features
        assert not run
        return
    assert len(set(map(settings_of, map(configs.__getitem__, run)))) == len(run)
    if variant or "small" not in getattr(system_module(name), "VARIANTS", {}):
        for row in run:
            opened = open_run(configs[row], tmp_path / row, Display())
            assert opened.tasks[0].name == "emotion" and opened.new_downstream("F1") is not None
    lacking = {"trigeorgis2016": {"ccc", "mse"}, "contours": set() if OPENSMILE else {"compare2016"}}
    seeing = {row.name for row in ablation_rows(name) if row.needs == "video"}  # of which there is none
    dimensions = {row.name for row in ablation_rows(name) if "MSP-Podcast" in row.published}
    same = {row for row, reason in reasons.items() if reason == SAME}
    assert same == ({*configs} - {"all", "logistic"} if form == "undertone:ssl" else set())
    left_out = {row for row in reasons if not row.endswith("-unlabelled")} - same
    assert left_out == lacking.get(name, dimensions | seeing)
    assert len(run) > (not seeing), "a table needs two rows, or one of sound"


def settings_of(config: RunConfig) -> str:
    """All of them, those that the head has anyway too."""
    defaults = {option.name: option.default for option in options_of(head_class(config.head))}
    return repr(config.model_copy(update={"head_options": dict(sorted((defaults | config.head_options).items()))}))


def test_a_row_that_changes_nothing_is_left_out_and_refused_by_name(
    system: Path, like_emodb: Path, store: Path, tmp_path: Path
) -> None:
    """With the size of `wide` given for all rows, `plain` is that one."""
    words = ("ablate", system, like_emodb, f"store={store}", *TINY, "--out", tmp_path / "out", "head.hidden_size=8")
    refused = undertone(*words, "--rows", "wide")
    assert refused.fails_with("Row 'wide' cannot be run: with these settings it is the row 'plain' again.")
    outcome = undertone(*words)
    assert (
        outcome.status == 0 and "Row wide was skipped: with these settings it is the row 'plain' again" in outcome.out
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["plain"]


STREAMED = {
    "zou2022": ("ssl=mine/a+mfcc+spectrogram", {}),
    "zou2022:free": ("mfcc+spectrogram+ssl=mine/a", {}),
    "morais2022": ("w2v2=mine/a+hubert=mine/b", {"9 fbank-ecapa": "fbank"}),
    "morais2022:base": ("w2v2=mine/a+hubert=mine/b", {"9 fbank-ecapa": "fbank"}),
    "tzirakis2017": ("waveform+video=mine/a", {}),
    "tzirakis2017:frozen": ("waveform+video=mine/a", {}),
}


@pytest.mark.parametrize("form", STREAMED)
def test_rows_are_of_the_upstreams_that_were_given(form: str) -> None:
    """Each stream in each row is the whole system's, with what it has of its own; a name that lacks is refused."""
    given, others = STREAMED[form]
    words = (f"upstream={given}", "max_epochs=2")
    first = next(iter(named_upstreams(given)))
    words += (f"streams.{first}.layers=3",)
    whole = make_config({"corpus": "x"}, words, preset=load_system(form)).of_streams()
    rows = {row.name: row for row in ablation_rows(form)}
    for name, config in row_configs(form, "x", words).items():
        assert config.max_epochs == 2 and config.corpus == "x"
        if name in others:
            assert config.upstream == others[name]
            continue
        own = config.of_streams()
        assert tuple(own) == (rows[name].streams or tuple(whole))
        for stream, settings in own.items():
            for key in ("upstream", "upstream_options", "mode", "layers"):
                assert getattr(settings, key) == getattr(whole[stream], key)
    lone = next(row for row in rows.values() if row.streams)
    for upstream in ("other=mine/a+fbank", "mine/a"):
        words = (f"upstream={upstream}", "streams={}", "alone_first=false")
        said = (
            rf"Row '{lone.name}' is of the stream '{lone.streams[0]}', and upstream={re.escape(upstream)} has none of"
        )
        with pytest.raises(ValueError, match=rf"{said} that name. Name the streams as the system does: upstream=\w+"):
            row_configs(form, "x", words)


def test_rows_of_a_variant_are_of_its_size(small_corpus: Path) -> None:
    for system, size in (("trigeorgis2016", 128), ("trigeorgis2016:small", 32)):
        for config in row_configs(system, str(small_corpus)).values():
            assert config.head_options.get("hidden_size", 128) == size  # 128 is the head's own default


def test_rows_of_other_settings_or_data_share_no_table(
    system: Path, like_emodb: Path, store: Path, tmp_path: Path
) -> None:
    words, out = ("ablate", system, like_emodb, f"store={store}", *TINY, "--out", tmp_path / "out"), tmp_path / "out"
    assert undertone(*words, "--rows", "plain").status == 0
    outcome = undertone(*words, "lr=0.1", "--rows", "wide")
    assert outcome.fails_with("plain holds a run with other settings: learning_rate was 0.001, now 0.1")
    text = like_emodb.read_text()
    try:
        like_emodb.write_text("\n".join(text.splitlines()[:-1]))
        outcome = undertone(*words, "--rows", "wide")
    finally:
        like_emodb.write_text(text)
    assert outcome.fails_with("plain was made from other data", "had 16 utterances of 4 speakers", "has 15 of 4 now")
    assert [path.name for path in out.iterdir()] == ["plain"], "nothing was trained"


UNLABELLED = """
from undertone.recipes.systems import Row
SYSTEM = {"upstream": "mfcc", "head": "linear", "ladder": True}
ABLATION = (Row("labelled", ("ladder=false", "tasks=emotion")), Row("more/../..", needs="unlabelled"))
"""


def test_a_row_without_what_it_is_about_is_left_out_and_refused_by_name(
    like_emodb: Path, store: Path, tmp_path: Path
) -> None:
    system = tmp_path / "ladders.py"
    system.write_text(UNLABELLED)
    words = ("ablate", system, like_emodb, f"store={store}", *TINY, "--out", tmp_path / "out")
    outcome = undertone(*words, "--rows", "more/../..")
    assert outcome.fails_with("Row 'more/../..' cannot be run", "give unlabelled=FOLDER")
    outcome = undertone(*words)
    assert outcome.status == 0 and "Row more/../.. was skipped: it learns from unlabelled speech" in outcome.out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labelled"]
    outcome = undertone(
        "ablate", "trigeorgis2016", like_emodb, "--rows", "mse", "--out", tmp_path / "none", f"store={store}"
    )
    assert outcome.fails_with("'mse' cannot be run: it predicts values, but these tasks are classes")


@pytest.mark.data
def test_every_ablation_starts_on_emodb_itself(data: Path, store: Path) -> None:
    for name in ABLATED:
        configs = row_configs(name, "emodb", (f"root={data / 'emodb'}", f"store={store}"))
        manifest: Manifest = prepare_from_config(next(iter(configs.values()))).manifest
        reasons = [why_not(row, configs[row.name], manifest) for row in ablation_rows(name)]
        assert len(manifest) == 535
        blocked = [reason for reason in reasons if "undertone[opensmile]" in reason]
        assert not blocked or importlib.util.find_spec("opensmile") is None
        unseen = [reason for reason in reasons if "video" in reason]
        assert reasons.count("") + len(unseen) > 1 or blocked
        assert not unseen or name == "tzirakis2017"
