"""`undertone new`: a head, a corpus or an upstream as a commented, working file with its contract test."""

from __future__ import annotations

import keyword
from pathlib import Path
from typing import Annotated

import typer

from undertone.commands.terminal import say
from undertone.common.discovery import nearest


def new(
    kind: Annotated[str, typer.Argument(help="head, corpus or upstream")],
    name: Annotated[str, typer.Argument(help="name of the file, such as my_head; the class is MyHead")],
    out: Annotated[Path, typer.Option(help="folder to write to")] = Path("."),
) -> None:
    """Write NAME.py, a commented working template, and test_NAME.py, its contract test."""
    file, test = write_new(kind, name, out)
    path = file if file.is_absolute() else f"./{file}"
    use = {"head": f"crossval CORPUS --head {path}", "corpus": f"prepare {path} --root FOLDER"}
    say(f"wrote    {file}, {test}\ntry      pytest {test}")
    say(f"then     undertone {use.get(kind, f'crossval CORPUS --upstream {path}')}")


KINDS = ("head", "corpus", "upstream")


def write_new(kind: str, name: str, folder: Path) -> tuple[Path, Path]:
    """Write FOLDER/NAME.py and FOLDER/test_NAME.py, and return these paths; the test passes as written.

    A ValueError says that there is no such kind, that no module can have the name, or that a file exists already.
    """
    from undertone.scoring.pages import write_page

    if kind not in KINDS:
        raise ValueError(f"Cannot make a new {kind!r}.{nearest(kind, KINDS)}")
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise ValueError(f"The name must be that of a Python module in lower case, such as my_{kind}, got {name!r}.")
    paths = (folder / f"{name}.py", folder / f"test_{name}.py")
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} exists already and was not changed. Choose another name or folder.")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    for path, template in zip(paths, (f"new_{kind}.py.j2", f"new_{kind}_test.py.j2"), strict=True):
        write_page(path, Path(__file__).parent / "templates" / template, name=name, class_name=class_name)
    return paths
