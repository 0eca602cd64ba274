"""export: a trained model for programs that have no Undertone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from undertone.commands.terminal import ModelArg, say


class Target(StrEnum):
    """What a model can be exported to."""

    transformers = "transformers"


def export(
    model: ModelArg,
    to: Annotated[Target, typer.Option(help="transformers: its own class, of a linear head")],
    out: Annotated[Path, typer.Option(help="a new folder")],
    task: Annotated[str | None, typer.Option(help="transformers: which task, of several")] = None,
) -> None:
    """Write a model for programs that have no Undertone."""
    from undertone.hub.to_transformers import to_transformers
    from undertone.inference.predict import load_model

    made = to_transformers(load_model(model, device="cpu").model, out, task)
    say(f"exported {made.class_name} to {made.folder}, task {made.task}")
    if made.left_out:
        say(f"note: transformers' class has one task; left out: {', '.join(made.left_out)}. --task NAME takes another.")
    if not made.exact_in_batches:
        say("note: in transformers padding changes this family's scores: give it one sound at a time.")
    say(f'try      pipeline("audio-classification", model="{made.folder}")("FILE.wav")')
