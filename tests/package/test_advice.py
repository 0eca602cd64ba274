"""What the library's own sentences advise exists: commands, options, settings, extras; and some advice is followed."""

from __future__ import annotations

import ast
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import ValidationError

from undertone.cli import app
from undertone.commands.listing import HEADS, listing
from undertone.common.discovery import available, find_class
from undertone.corpora import corpus_names, load_corpus
from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import Manifest
from undertone.downstream.head import Head
from undertone.downstream.ladder_options import LadderOptions
from undertone.tests.cli.commands import TINY, undertone
from undertone.training.augmentation import Augmentation
from undertone.training.config import SHORT, RunConfig
from undertone.training.settings import NESTED, make_config
from undertone.upstream.hf.random_weights import save_random

ROOT = Path(__file__).parents[2]
COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
PROSE = {"is", "that", "torch"}  # words that follow the package's name elsewhere
NO_SETTINGS = {
    "key",  # key=value, which stands for any
    "joy", "anger",  # of --map joy=happy
    "title", "name", "model", "allow", "revision", "flush", "window_ms", "max_hz",
    "sep", "segment", "batch_seconds", "sample_rate",
    "dtype", "device_map", "num_labels", "pooling_mode",  # of transformers
    "ssl", "hubert", "video",  # names of streams
    "to", "any_sound", "window", "hop", "channels",  # of Python calls
}  # fmt: skip


def sentences() -> Iterator[tuple[str, str]]:
    """(where, text) of every string of the library that is not a docstring; what is filled in is `{}`."""
    for file in sorted(ROOT.rglob("*.py")):
        place = file.relative_to(ROOT)
        if place.parts[0] in ("tests", "benchmarks", "docs") or any(part.startswith(".") for part in place.parts):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        skipped: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                skipped.add(id(node.value))
            if isinstance(node, ast.JoinedStr):
                skipped |= {id(part) for part in node.values}
                parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
                yield f"{place}:{node.lineno}", "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
                yield f"{place}:{node.lineno}", node.value


SENTENCES = list(dict.fromkeys(sentences()))


def option_names(command: Any) -> set[str]:
    """Options of a command, and of the commands below it."""
    below = getattr(command, "commands", {}).values()
    own = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return own.union({"--help"}, *map(option_names, below))


RECIPES = {"--root", "--upstream", "--out", "--push"}  # of python recipes/NAME.py


def test_every_command_that_is_named_exists_and_takes_the_options_beside_it() -> None:
    seen, wrong = 0, []
    for where, text in SENTENCES:
        for verb, rest in re.findall(r"undertone ([a-z][a-z-]*)\b([^`]*)", text):
            if verb in PROSE:
                continue
            seen += 1
            command: Any = COMMANDS.get(verb)
            if command is None:
                wrong.append(f"{where}: undertone {verb}")
                continue
            word = (re.match(r" ([a-z]+)\b", rest) or [None, ""])[1]
            if verb == "store" and word not in command.commands:
                wrong.append(f"{where}: undertone store {word}")
            if verb == "list":
                assert word == "settings" or listing(word), where
            if "`" in text or verb in ("list", "compare"):
                command = command.commands.get(word, command) if verb == "store" else command
                missing = set(re.findall(r"--[a-z][a-z-]*", rest)) - option_names(command)
                wrong += [f"{where}: undertone {verb} {option}" for option in missing]
    assert not wrong and seen > 15, wrong


def test_every_option_that_is_named_exists() -> None:
    known = {"--version"}.union(*map(option_names, COMMANDS.values()))
    named = {
        (where, option)
        for where, text in SENTENCES
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*(?![\w-])", text)
        if not where.startswith("recipes/") or option not in RECIPES
    }
    assert len(named) > 30 and not [pair for pair in named if pair[1] not in known]


def nested_options() -> dict[str, set[str]]:
    """{prefix: names that PREFIX.NAME=value takes}."""
    import inspect

    heads: list[Any] = [find_class(name, HEADS, Head) for name in available(HEADS, Head)]  # type: ignore[type-abstract]
    corpora: list[Any] = [type(load_corpus(name)) for name in corpus_names()]
    own: list[Any] = [
        find_class(name, "undertone.corpora.own", Corpus)
        for name in ("folder", "hf_dataset", "joined", "audformat_folder")
    ]  # type: ignore[type-abstract]

    def parameters(classes: list[Any]) -> set[str]:
        return {name for cls in classes for kind in cls.__mro__ for name in inspect.signature(kind.__init__).parameters}

    return {
        "head": parameters(heads),
        "corpus": parameters([*corpora, *own]),
        "ladder": set(LadderOptions.model_fields),
        "augment": set(Augmentation.model_fields),
        "task_weights": {"gender"},
        "sweep": set(RunConfig.model_fields),
    }


def test_every_setting_that_is_named_exists_and_takes_that_value() -> None:
    options, seen, wrong = nested_options(), 0, []
    for where, text in SENTENCES:
        if where.startswith(
            ("hub/onnx/", "hub/to_transformers", "publish/card", "hub/__init__", "scoring/plots", "report/demo_page")
        ) or text.startswith("<"):  # Python, YAML and HTML for readers elsewhere
            continue
        for key, value in re.findall(r"(?<![\w.\-'\"{/])([a-z_]+(?:\.[A-Za-z_]+)?)=(?!=)([\w.\-\[{<]*)", text):
            value, (prefix, dot, option) = value.rstrip("."), key.partition(".")
            if (
                key in NO_SETTINGS
                or option == "NAME"
                or (not dot and text.startswith("Head ") and key in options["head"])
            ):
                continue
            seen += 1
            if dot:
                if prefix not in NESTED or option not in options.get(prefix, ()):
                    wrong.append(f"{where}: {key}={value}")
            elif SHORT.get(key, key) not in RunConfig.model_fields:
                wrong.append(f"{where}: {key}={value}")
            elif value.islower() and "{" not in value and value not in ("null",):
                try:
                    make_config(
                        {"corpus": "emodb", "ladder": True if key == "unlabelled" else None}, [f"{key}={value}"]
                    )
                except (ValueError, ValidationError) as error:
                    wrong.append(f"{where}: {key}={value}: {error}")
    assert not wrong and seen > 40, "\n".join(wrong)


def test_every_extra_that_is_named_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for _, text in SENTENCES for extra in re.findall(r"undertone\[(\w+)\]", text)}
    assert named and named <= set(extras)


def test_the_synthetic_corpus_needs_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made in the cache, a pure function of its seed: a second corpus is the first one, to the sample."""
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ("synthetic", "corpus.num_speakers=2", "corpus.per_emotion=2")
    outcome = undertone("prepare", *words, "--out", tmp_path / "a")
    assert outcome.status == 0, outcome.err
    made = tmp_path / ".cache" / "undertone" / "synthetic"
    assert len(list(made.rglob("*.wav"))) == 16
    shutil.rmtree(made)
    assert undertone("prepare", *words, "--out", tmp_path / "b").status == 0
    assert Manifest.load(tmp_path / "a").hash == Manifest.load(tmp_path / "b").hash


def test_a_model_that_is_not_ours_is_named_as_an_upstream(tmp_path: Path) -> None:
    folder = save_random("tiny-hubert", tmp_path / "hubert")
    outcome = undertone("predict", folder, tmp_path / "a.wav")
    assert outcome.fails_with(
        "holds a 'hubert' model (HubertModel) without a classifier of audio", f"--upstream {folder}`"
    )


def test_a_damaged_manifest_is_made_again_as_its_sentence_says(small_corpus: Path, tmp_path: Path) -> None:
    words = ("train", small_corpus, "--head", "linear", "--out", tmp_path / "run", f"store={tmp_path}", *TINY[1:])
    assert undertone(*words).status == 0
    manifest = tmp_path / "run" / "manifest" / "manifest.arrow"
    manifest.write_bytes(manifest.read_bytes()[:1000])
    assert undertone(*words).fails_with("is damaged, or no manifest", "Remove it")
    manifest.unlink()
    assert undertone(*words).status == 0 and manifest.is_file()


@pytest.mark.parametrize("text", ["undertone fly", "Give --wings.", "Use protocol=wings, or head.wings=2."])
def test_the_checks_can_fail(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SENTENCES", [*SENTENCES, ("x.py:1", text)])
    checks = (
        test_every_command_that_is_named_exists_and_takes_the_options_beside_it,
        test_every_option_that_is_named_exists,
        test_every_setting_that_is_named_exists_and_takes_that_value,
    )
    failed = 0
    for check in checks:
        try:
            check()
        except AssertionError:
            failed += 1
    assert failed == 1
