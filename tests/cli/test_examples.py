"""What documentation shows is true: examples of commands parse, those of docstrings and of docs/predict.md run."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

import undertone as package
from undertone.cli import app
from undertone.commands.examples import EXAMPLES
from undertone.tests.cli.commands import undertone
from undertone.tests.cli.test_bad_input import rows_of

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "predict.md").read_text().partition("## Long recordings")[0]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for kind, block in BLOCKS if kind == "bash" for line in block.splitlines()]
ROOT = typer.main.get_command(app)


def commands(group, before: str = "") -> dict[str, object]:
    """{words: command} of all commands."""
    found = {}
    for name, command in group.commands.items():
        found[f"{before}{name}"] = command
        found |= commands(command, f"{before}{name} ") if hasattr(command, "commands") else {}
    return found


@pytest.mark.parametrize("name", commands(ROOT))
def test_every_command_has_two_examples_that_parse(name: str) -> None:
    assert len(EXAMPLES[name]) >= 2
    for example in EXAMPLES[name]:
        program, *words = shlex.split(example.rpartition("| ")[2])
        assert program == "undertone" and " ".join(words).startswith(name)
        context = ROOT.make_context("undertone", list(words))
        command, left = ROOT, list(words)
        while hasattr(command, "commands"):
            found, command, left = command.resolve_command(context, left)
            context = command.make_context(found, list(left), parent=context)
    help_text = " ".join(undertone(*name.split(), "-h").out.split())
    assert "Examples:" in help_text and "Usage: undertone" in help_text and EXAMPLES[name][0].split()[1] in help_text


def test_the_help_has_panels_and_says_how_to_complete() -> None:
    text = undertone("-h").out
    for panel in ("Train", "Data", "Use", "Publish", "Inspect", "Extend"):
        assert re.search(rf"─ {panel} ─", text), panel
    assert "--install-completion" in text and undertone("--help").out == text
    for flag in ("--version", "-V"):
        assert undertone(flag).out == f"undertone {package.__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predikt"], "No such command 'predikt'. Did you mean 'predict'?"),
        (["crossval", "a.csv", "--hed", "x"], "No such option: --hed (Possible options: --head"),
        (["predict"], "Missing argument 'model'. undertone predict --help shows what there is."),
        (["predict", "a", "b", "--format", "xml"], "Invalid value for '--format': 'xml' is not one of"),
        (["train", "a.csv", "--seed", "one"], "Invalid value for '--seed': Input should be a valid integer"),
        (["store", "lost"], "No such command 'lost'."),
    ],
)
def test_wrong_use_is_a_sentence_as_all_errors_are(words: list[str], said: str) -> None:
    outcome = undertone(*words)
    assert outcome.fails_with(said, "--help shows what there is.") and len(outcome.err.splitlines()) == 1, outcome.err
    assert outcome.out == ""


def test_no_words_at_all_show_the_help() -> None:
    outcome = undertone()
    assert outcome.status == 2 and "Usage: undertone" in outcome.out + outcome.err


@pytest.fixture(scope="module")
def place(finished: Path, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples speak of: runs/quickstart, runs/calls, call.wav, recordings, calls.csv."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "runs").mkdir()
    for name in ("quickstart", "calls"):
        shutil.copytree(finished, folder / "runs" / name)
    sounds = [Path(row["file"]) for row in rows_of(small_corpus)]
    shutil.copy(sounds[0], folder / "call.wav")
    (folder / "recordings").mkdir()
    shutil.copy(sounds[1], folder / "recordings" / "another.wav")
    (folder / "archive").mkdir()
    shutil.copy(sounds[2], folder / "archive" / "old.m4a")  # a wav by its content
    shutil.copytree(small_corpus.parent, folder / "calls")
    (folder / "calls.csv").write_text(small_corpus.read_text().replace(str(small_corpus.parent), "calls"))
    return folder


@pytest.mark.parametrize(
    "name", ["undertone", "undertone.report", "undertone.inference.predict", "undertone.inference.format"]
)
def test_the_examples_of_docstrings_run(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(place, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    shutil.rmtree("runs/calls")
    module = import_module(name)
    examples = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module, name) if test.examples]
    if name == "undertone.report":  # a package that is called as a function
        examples = doctest.DocTestFinder().find(type(module).__call__, name, globs={})
    assert examples
    for test in examples:
        test.globs |= {"undertone": package, "Path": Path}
        said = io.StringIO()
        with contextlib.redirect_stderr(io.StringIO()):
            outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.write)
        assert outcome.failed == 0, said.getvalue()


def test_the_page_on_prediction(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    assert len(COMMANDS) == 8
    for command in COMMANDS:
        before, _, words = command.rpartition("| ")
        if before:
            content = subprocess.run(before, shell=True, capture_output=True, check=True).stdout
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        outcome = undertone(*shlex.split(words)[1:])
        assert outcome.status == 0 and (outcome.out or "--out" in command), f"{command}\n{outcome.err}"
    assert (tmp_path / "place" / "predictions.csv").read_text().startswith("file,speaker,gender,emotion,arousal,")
    (python,) = [block for kind, block in BLOCKS if kind == "python"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(python, "docs/predict.md", "exec"), {})
    assert len(said.getvalue().split()) == 3


def test_what_the_page_names_is_there() -> None:
    shown = PAGE + (DOCS / "trackers.md").read_text()
    names = set(re.findall(r"`(--[a-z-]+)", shown)) | set(re.findall(r" (--[a-z-]+)", "\n".join(COMMANDS)))
    known = {option for name in ("predict", "train") for param in commands(ROOT)[name].params for option in param.opts}
    assert names - {"--"} <= known, names - known


def test_the_public_names_are_there_and_typed() -> None:
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert callable(getattr(package, name)), name
    assert package.report is import_module("undertone.report") and package.compare.__name__ == "compare_runs"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018
    with pytest.raises(ValueError, match="to='tflite' is not known: 'transformers' or 'onnx'"):
        package.export("no-such-run", "x", to="tflite")
    assert (Path(package.__file__).parent / "py.typed").is_file()


@pytest.mark.slow
def test_importing_the_package_costs_nothing() -> None:
    code = "import time; t = time.process_time(); import undertone; print(time.process_time() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    assert min(float(run.stdout) for run in runs) < 0.05
