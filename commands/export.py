"""export: a trained model for programs that have no Undertone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from undertone.commands.terminal import AllowOption, ModelArg, console, say

if TYPE_CHECKING:
    from undertone.downstream.model import UndertoneModel


class Target(StrEnum):
    """What a model can be exported to."""

    transformers = "transformers"
    onnx = "onnx"


def export(
    model: ModelArg,
    to: Annotated[Target, typer.Option(help="transformers: its own class, of a linear head; onnx: for onnxruntime")],
    out: Annotated[Path, typer.Option(help="a new folder")],
    task: Annotated[str | None, typer.Option(help="transformers: which task, of several")] = None,
    allow: AllowOption = None,
) -> None:
    """Write a model for programs that have no Undertone."""
    from undertone.inference.predict import load_model

    loaded = load_model(model, device="cpu", allow=tuple(allow or ())).model
    if to is Target.transformers:
        _to_transformers(loaded, out, task)
    elif task is not None:
        raise ValueError("--task is for --to transformers, whose classes have one task; ONNX takes all of them.")
    else:
        _to_onnx(loaded, out)


def _to_transformers(model: UndertoneModel, out: Path, task: str | None) -> None:
    from undertone.hub.to_transformers import to_transformers

    made = to_transformers(model, out, task)
    say(f"exported {made.class_name} to {made.folder}, task {made.task}")
    if made.left_out:
        say(f"note: transformers' class has one task; left out: {', '.join(made.left_out)}. --task NAME takes another.")
    if not made.exact_in_batches:
        say("note: in transformers padding changes this family's scores: give it one sound at a time.")
    say(f'try      pipeline("audio-classification", model="{made.folder}")("FILE.wav")  # reads files with ffmpeg')


def _to_onnx(model: UndertoneModel, out: Path) -> None:
    from undertone.hub.to_onnx import CHECK_SECONDS, GRAPH, QUANTISED, to_onnx

    made = to_onnx(model, out)
    table = Table("file", "MB", "largest difference of a score from PyTorch's")
    table.add_row(GRAPH, f"{made.size / 1e6:.1f}", f"{made.difference:.1e}")
    table.add_row(QUANTISED, f"{made.int8_size / 1e6:.1f}", f"{made.int8_difference:.1e}")
    console.print(table)
    seconds = ", ".join(f"{value:g}" for value in CHECK_SECONDS)
    say(f"Differences over a padded batch of noises of {seconds} s; measure int8 on your own sound before use.")
    say(f"exported {made.folder}\ntry      python {made.folder / 'predict.py'} FILE.wav")
