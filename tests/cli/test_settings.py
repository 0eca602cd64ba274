"""Where the settings of a run come from, that each has a test of its effect, and what there is to choose from."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from undertone.corpora import corpus_names
from undertone.tests.cli.commands import undertone
from undertone.tests.cli.runs import Train, distance
from undertone.training.config import RunConfig


def test_every_field_has_a_test_of_its_effect() -> None:
    """A test `test_FIELD_...` in `test_effects_*.py` gives the field on the command line and looks at what it does."""
    fields = sorted(RunConfig.model_fields, key=len, reverse=True)
    found = set()
    for file in Path(__file__).parent.glob("test_effects_*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                found |= {next((field for field in fields if node.name.startswith(f"test_{field}_")), "")}
    assert found - {""} == set(fields)


FLAGS = {
    "--root": ("root", "/", "/"),
    "--upstream": ("upstream", "mfcc", "mfcc"),
    "--head": ("head", "linear", "linear"),
    "--tasks": ("tasks", "gender, emotion", ["gender", "emotion"]),
    "--protocol": ("protocol", "random", "random"),
    "--seed": ("seed", "3", 3),
    "--epochs": ("max_epochs", "1", 1),
    "--lr": ("learning_rate", "2e-3", 2e-3),
    "--batch-size": ("batch_size", "20", 20),
    "--device": ("device", "cpu", "cpu"),
}


def test_every_flag_sets_its_field(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    words = [word for flag, (_, value, _) in FLAGS.items() for word in (flag, value)]
    outcome = undertone("train", small_corpus, "--store", store, "--out", tmp_path / "run", *words)
    assert outcome.status == 0, outcome.err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {field: config[field] for field, _, _ in FLAGS.values()} == {
        field: want for field, _, want in FLAGS.values()
    }
    help_text = undertone("train", "--help").out
    assert {*FLAGS, "--store", "--config", "--system", "--out", "--fold", "--push"} <= set(
        re.findall(r"--[a-z-]+", help_text)
    )


def test_later_sources_win(small_corpus: Path, store: Path, tmp_path: Path) -> None:
    """A preset, then the file, then flags, then key=value."""
    file = tmp_path / "mine.yaml"
    file.write_text("upstream: fbank\nseed: 1\nlr: 0.01\nhead_options: {hidden_size: 8}\nmax_steps: 2\nwarmup: 0.5\n")
    words = ("--system", "superb", "--config", file, "--seed", "2", "--lr", "0.02", "learning_rate=0.03", "device=cpu")
    outcome = undertone("train", small_corpus, "--store", store, "--out", tmp_path / "run", *words)
    assert outcome.status == 0, outcome.err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    wanted = {"upstream": "fbank", "head": "linear", "seed": 2, "learning_rate": 0.03, "warmup": 0.5, "select_by": "wa"}
    assert {key: config[key] for key in wanted} == wanted


def test_the_config_of_a_run_makes_it_again(trained: Train, small_corpus: Path, tmp_path: Path) -> None:
    outcome = undertone("train", small_corpus, "--config", trained() / "config.json", "--out", tmp_path / "again")
    assert outcome.status == 0, outcome.err
    assert distance(trained(), tmp_path / "again") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["learning_rte=1"], "Unknown setting 'learning_rte'. Did you mean 'learning_rate'"),
        (["patiense=1"], "Unknown setting 'patiense'. Did you mean 'patience'"),
        (["head.hiden_size=8"], "Did you mean 'hidden_size'"),
        (["task_weights.gendre=1"], "Did you mean 'gender'"),
        (["--head", "atention"], "Unknown head 'atention'. Did you mean 'attention'"),
        (["--upstream", "fbnak"], "Unknown upstream 'fbnak'. Did you mean 'fbank'"),
        (["--system", "suberb"], "Unknown system 'suberb'. Did you mean 'superb'"),
        (["--protocol", "speakers"], "has no protocol 'speakers'. Did you mean 'speaker'"),
        (["batch_size=0"], "Setting 'batch_size': input should be greater than or equal to 1, got 0."),
        (["seed"], "Expected key=value, got 'seed'"),
        (["--config", "none.yaml"], "Cannot read the config none.yaml"),
        (["tasks=emotions"], "Task 'emotions'"),
    ],
)
def test_a_wrong_setting_ends_in_one_sentence_before_any_training(
    small_corpus: Path, store: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    outcome = undertone("crossval", small_corpus, "--out", tmp_path / "run", "--store", store, *words, "device=cpu")
    assert outcome.fails_with(message), outcome.err
    assert not (tmp_path / "run" / "folds").exists()


def test_an_unknown_key_in_a_file_names_its_nearest(small_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("sede: 1\n")
    outcome = undertone("train", small_corpus, "--config", tmp_path / "mine.yaml")
    assert outcome.fails_with("Unknown setting 'sede'. Did you mean 'seed'")


# ---- what there is

ROOT = Path(__file__).parents[2]
MODULES = {"heads": "downstream/heads", "upstreams": "upstream/acoustic", "systems": "recipes/systems"}


@pytest.mark.parametrize("kind", MODULES)
def test_list_shows_every_module(kind: str) -> None:
    names = {path.stem for path in (ROOT / MODULES[kind]).glob("[!_]*.py")}
    outcome = undertone("list", kind)
    assert outcome.status == 0 and names and names <= set(re.findall(r"[\w-]+", outcome.out))


def test_list_corpora_shows_every_corpus_and_the_users_own_data() -> None:
    shown = set(re.findall(r"[\w-]+", undertone("list", "corpora").out))
    assert {"emodb", "synthetic", *corpus_names(), "csv", "FOLDER"} <= shown


def test_list_of_something_else_names_the_nearest() -> None:
    assert undertone("list", "head").fails_with("Cannot list 'head'. Did you mean 'heads'")
