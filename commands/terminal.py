"""What commands print (lines, tables, the final error), and arguments that several commands have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Column, Table

from undertone.common.console import is_first_process, printable

console = Console(quiet=not is_first_process(), markup=False, highlight=False, emoji=False)

CorpusOptions = Annotated[list[str] | None, typer.Argument(help="corpus.NAME=value")]
Root = Annotated[Path | None, typer.Option(help="folder of the corpus' audio")]
AllowOption = Annotated[
    list[str] | None,
    typer.Option("--allow", help="your code that the model may run: ./my_head.py, my_pkg; may be repeated"),
]
ModelArg = Annotated[str, typer.Argument(help="a run, a model folder or a Hub id")]


def say(text: str) -> None:
    """Print lines as they are: no markup, no wrapping."""
    console.print(printable(text), soft_wrap=True)


def show(table_of: tuple[list[str], list[str], list[list[str]]]) -> None:
    """Print title lines and a table of a header and rows."""
    titles, header, rows = table_of
    for title in titles:
        say(title)
    if not header:
        return
    table = Table(*(Column(printable(name), overflow="fold") for name in header))  # narrow: wrapped, never cut
    for row in rows:
        table.add_row(*map(printable, row))
    console.print(table)


def fail(message: str, status: int = 2) -> NoReturn:
    """End the process with one sentence on stderr."""
    stderr = Console(stderr=True, markup=False, highlight=False, emoji=False)
    stderr.print(f"undertone: {printable(message)}", soft_wrap=True)
    sys.exit(status)
