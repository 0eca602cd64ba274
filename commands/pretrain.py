"""`undertone pretrain`: self-supervised training of an upstream on speech without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from undertone.commands.terminal import say
from undertone.common.console import is_first_process


def pretrain(
    corpora: Annotated[
        list[str],
        typer.Argument(metavar="CORPUS_OR_DIR...", help="corpora, tables, folders of audio; key=value settings"),
    ],
    upstream: Annotated[str | None, typer.Option(help="Hub id or folder of the model to continue")] = None,
    size: Annotated[str | None, typer.Option(help="tiny or small: start a new model from nothing")] = None,
    out: Annotated[Path, typer.Option(help="folder of the model; resumes if it was interrupted")] = Path(
        "runs/pretrained"
    ),
    root: Annotated[str | None, typer.Option(help="folder of the audio of each corpus, F+G in their order")] = None,
    fold: Annotated[
        list[str] | None, typer.Option(help="FOLD or CORPUS:FOLD: exclude its test speakers; may be repeated")
    ] = None,
    transductive: Annotated[bool, typer.Option(help="use test speakers too; every score is then marked")] = False,
    objective: Annotated[
        str | None, typer.Option(help="units (masked prediction), workers (and prosody) or contrastive")
    ] = None,
    targets: Annotated[str | None, typer.Option(help="of units: mel, mfcc, or layer:N of the upstream")] = None,
    mode: Annotated[str | None, typer.Option(help="full, or lora for a large upstream")] = None,
    steps: Annotated[int | None, typer.Option(help="updates")] = None,
    lr: Annotated[float | None, typer.Option(help="peak learning rate")] = None,
    seed: Annotated[int | None, typer.Option(help="of weights, order, masks and crops")] = None,
    store: Annotated[str | None, typer.Option(help="folder that knows which files were read before")] = None,
) -> None:
    """Train an upstream on speech without labels, as wav2vec 2.0, HuBERT and BEST-RQ do; the labels are never read."""
    from undertone.experiments.hidden_states import store_folder
    from undertone.pretraining.pretrain import pretrain as run
    from undertone.pretraining.settings import make_settings

    words = [word for word in corpora if "=" in word]
    names = tuple(word for word in corpora if "=" not in word)
    given = {
        "corpora": names, "roots": tuple(root.split("+")) if root is not None else None, "upstream": upstream,
        "size": size, "fold": tuple(fold) if fold else None, "transductive": transductive, "objective": objective,
        "targets": targets, "mode": mode, "max_steps": steps, "learning_rate": lr, "seed": seed,
    }  # fmt: skip
    folder = run(make_settings(given, words), out, store_folder(store) / "audio")
    if is_first_process():
        say(f"upstream {folder}\nnext     undertone crossval CORPUS --upstream {folder}")
