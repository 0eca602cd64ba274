"""The command that runs a system's own ablation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undertone.commands.terminal import show
from undertone.recipes.flags import CorpusArg


def ablate(
    system: Annotated[str, typer.Argument(help="a preset (undertone list systems), also li2019:small")],
    corpus: CorpusArg,
    settings: Annotated[list[str] | None, typer.Argument(help="key=value for any setting, of all rows")] = None,
    root: Annotated[str | None, typer.Option(help="folder of the corpus' audio")] = None,
    rows: Annotated[str | None, typer.Option(help="only these rows, with commas; the others stay blank")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the rows' runs; what is finished is kept")] = None,
) -> None:
    """Cross-validate every row of a system's ablation; one table, published beside ours."""
    from undertone.recipes.ablation import ablation_table, run_ablation
    from undertone.training.progress import is_first_process

    names = [name.strip() for name in rows.split(",") if name.strip()] if rows is not None else []
    words = [*(settings or []), *([f"root={root}"] if root is not None else [])]
    folder = out or Path("runs") / f"ablate-{Path(system).stem.replace(':', '-')}-{Path(corpus).stem}"
    table = ablation_table(run_ablation(system, corpus, words, folder, names))
    if is_first_process():
        show(table)
