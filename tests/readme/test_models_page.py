"""docs/models.md: its commands have the options that it gives them, its Python is Python, its page names are files."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer

from undertone.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "models.md").read_text()
COMMANDS = [line.split("  #")[0] for line in PAGE.splitlines() if line.startswith("undertone ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_has_the_options_it_is_shown_with(line):
    _, name, *words = shlex.split(line)
    command = typer.main.get_command(app).commands[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_options_in_the_text_and_python_blocks():
    push = typer.main.get_command(app).commands["push"]
    options = {option for parameter in push.params for option in parameter.opts}
    assert {"--license", "--public", "--speaker-names", "--head-only"} <= options
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        ast.parse(block)
    for path in re.findall(r"benchmarks/\w+\.py", PAGE):
        assert (ROOT / path).is_file()
