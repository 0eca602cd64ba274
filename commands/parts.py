"""Commands for one's own parts: what there is by name, and a start for a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from undertone.commands.terminal import console, say


def list_names(kind: Annotated[str, typer.Argument(help="corpora, upstreams, heads or systems")]) -> None:
    """What there is by name."""
    from undertone.recipes.listing import listing

    table = Table(kind, "")
    for name, text in listing(kind):
        table.add_row(name, text)
    console.print(table)


def new(
    kind: Annotated[str, typer.Argument(help="head, corpus or upstream")],
    name: Annotated[str, typer.Argument(help="of the file and the class: my_head")],
    out: Annotated[Path, typer.Option(help="folder to write to")] = Path("."),
) -> None:
    """Write NAME.py, a commented working start, and test_NAME.py, its contract test."""
    from undertone.recipes.new import write_new

    file, test = write_new(kind, name, out)
    path = file if file.is_absolute() else f"./{file}"
    use = {"head": f"crossval CORPUS --head {path}", "corpus": f"prepare {path} --root FOLDER"}
    say(f"wrote    {file}, {test}\ntry      pytest {test}")
    say(f"then     undertone {use.get(kind, f'crossval CORPUS --upstream {path}')}")
