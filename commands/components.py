"""Commands for one's own parts: what there is by name, and a start for a new one."""

from __future__ import annotations

import keyword
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from undertone.commands.terminal import console, say
from undertone.common.discovery import nearest


def list_names(kind: Annotated[str, typer.Argument(help="corpora, upstreams, heads or systems")]) -> None:
    """What there is by name."""
    from undertone.commands.listing import listing

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
    file, test = write_new(kind, name, out)
    path = file if file.is_absolute() else f"./{file}"
    use = {"head": f"crossval CORPUS --head {path}", "corpus": f"prepare {path} --root FOLDER"}
    say(f"wrote    {file}, {test}\ntry      pytest {test}")
    say(f"then     undertone {use.get(kind, f'crossval CORPUS --upstream {path}')}")


# ---- `undertone new`: a head, a corpus or an upstream of your own as a commented, working file with its contract test.

KINDS = ("head", "corpus", "upstream")


def write_new(kind: str, name: str, folder: Path) -> tuple[Path, Path]:
    """Write FOLDER/NAME.py and FOLDER/test_NAME.py; the test passes as it is written.

    Args:
        kind: head, corpus or upstream.
        name: a Python name in lower case, such as `my_head`; the class is then `MyHead`.
        folder: where the two files go.

    Returns:
        the paths of the file and of its test.

    Raises:
        ValueError: an unknown kind, a name that no module can have, or a file that is there already.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    if kind not in KINDS:
        raise ValueError(f"Cannot make a new {kind!r}.{nearest(kind, KINDS)}")
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise ValueError(f"The name must be one of a Python module in lower case, such as my_{kind}, got {name!r}.")
    paths = (folder / f"{name}.py", folder / f"test_{name}.py")
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} is there already, and is left as it is. Choose another name or folder.")
    environment = Environment(  # Python, not HTML: nothing to escape
        loader=PackageLoader("undertone.commands", "templates"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    class_name = "".join(part.capitalize() for part in name.split("_"))
    folder.mkdir(parents=True, exist_ok=True)
    for path, template in zip(paths, (f"new_{kind}.py.j2", f"new_{kind}_test.py.j2"), strict=True):
        text = environment.get_template(template).render(name=name, class_name=class_name)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    return paths
