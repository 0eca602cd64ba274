"""README and docs: commands take the options and settings that they are shown with; what is named is there."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer

from undertone import cli
from undertone.experiments import crossval
from undertone.tests.package.test_advice import option_names

ROOT = Path(__file__).resolve().parents[2]
# Rows of results.md are commands of earlier commits.
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "results.md")]
OPTIONS = option_names(typer.main.get_command(cli.app))
COMMANDS = [
    line.split("  #")[0].strip()
    for page in PAGES
    for block in re.findall(r"```(?:bash)?\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.splitlines()
    if line.startswith("undertone ")
]


def test_a_command_has_the_options_it_is_shown_with() -> None:
    for line in COMMANDS:
        _, name, *words = shlex.split(line)
        command = typer.main.get_command(cli.app).commands[name]
        if name == "store":
            command = command.commands[words[0]]
        assert {word for word in words if word.startswith("--")} <= option_names(command), line


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("undertone crossval ")])
def test_every_crossval_line_is_a_valid_config(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed by the command line itself, which validates the config before it starts anything."""

    class Reached(Exception):
        pass

    def stop(*_: object, **__: object) -> None:
        raise Reached

    monkeypatch.setattr(crossval, "crossval", stop)
    line = re.sub(r" --compare \S+", "", line)  # refused before anything starts where there is no such run
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with pytest.raises(Reached):
        cli.app()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    named = {ROOT / path for path in re.findall(r"(?<![\w/.-])(?:tests|benchmarks|recipes)(?:/\w+)+(?:\.py)?", text)}
    named |= {page.parent / path for path in re.findall(r"\]\(([^)#:]+)[^):]*\)", text)}
    assert not [str(path) for path in named if not path.exists()]
    assert set(re.findall(r"`(--[a-z-]+)(?![\w-])", text)) <= OPTIONS | {"--live"}  # of benchmarks/long_file.py
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        ast.parse(block)
