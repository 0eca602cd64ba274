"""`undertone predict`: a model's predictions for recordings, written as they are made."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertone.commands.inputs import Named, inputs_of
from undertone.commands.terminal import AllowOption, ModelArg, fail
from undertone.common.console import Display, printable

if TYPE_CHECKING:
    from undertone.inference.recordings import Recording
    from undertone.inference.write import Writer


class Format(StrEnum):
    """How predictions are written."""

    table = "table"
    csv = "csv"
    json = "json"
    jsonl = "jsonl"
    parquet = "parquet"


def predict(
    model: ModelArg,
    files: Annotated[
        list[str],
        typer.Argument(help="audio files, folders, quoted patterns, tables with a column `file`; - is standard input"),
    ],
    out: Annotated[Path | None, typer.Option(help="file to write to; its ending says the format")] = None,
    format: Annotated[Format | None, typer.Option(help="default: table, or as --out ends")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="--format json")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="--format csv")] = False,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="add the vector before the outputs")] = False,
    attention: Annotated[bool, typer.Option("--attention", help="add the weights of the frames")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    batch_seconds: Annotated[
        float | None, typer.Option(help="audio in a batch; default: 60 on a GPU, one file on a CPU")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="of the CPU; default: all cores")] = None,
    fold: Annotated[str | None, typer.Option(help="of a run: the model of this fold")] = None,
    revision: Annotated[str | None, typer.Option(help="of a Hub id: branch, tag or commit")] = None,
    allow: AllowOption = None,
) -> None:
    """Predict emotion, gender, ... of recordings; exit status 1 if one of them failed."""
    chosen = _format(out, format, as_json, as_csv)
    if chosen is Format.table and (embeddings or attention):
        option = "--embeddings" if embeddings else "--attention"
        raise ValueError(f"{option} needs a format that holds it: --format csv, json, jsonl or parquet.")
    _check_order(model, files)
    display = Display(quiet=not sys.stderr.isatty())
    with ExitStack() as stack:
        named = inputs_of(files, stack, lambda line: print(printable(line), file=sys.stderr))

        import torch

        from undertone.inference.predict import load_model
        from undertone.upstream.execution import packed

        if threads is not None:
            torch.set_num_threads(threads)
        where = None if device == "auto" else device
        predictor = load_model(model, fold=fold, revision=revision, device=where, allow=tuple(allow or ()))
        stack.enter_context(packed(predictor.model) if predictor.model.device.type == "cpu" else nullcontext())
        advance = stack.enter_context(display.bar("predict"))
        writer = stack.enter_context(_writer(chosen, out, display))
        asked: deque[Mapping[str, Any]] = deque()
        rows = predictor.predict_each(
            _recordings(named, asked), batch_seconds=batch_seconds, embeddings=embeddings, attention=attention
        )
        failed, count = [], 0
        for count, row in enumerate(rows, 1):
            writer.write(row, asked.popleft())
            if "error" in row:
                failed.append(row)
            if isinstance(named, Sized):
                advance(count, len(named), "")
    if failed:
        for row in failed:
            print(printable(f"{row['file']}: {row['error']}"), file=sys.stderr)
        fail(f"{len(failed)} of {count} recordings could not be predicted.", 1)


def _format(out: Path | None, format: Format | None, as_json: bool, as_csv: bool) -> Format:
    """The only format that was asked for."""
    named = [*([format] if format else []), *([Format.json] if as_json else []), *([Format.csv] if as_csv else [])]
    if len(named) > 1:
        raise ValueError(f"One format at a time: --format, --json and --csv ask for {' and '.join(named)}.")
    ending = out.suffix.lower().removeprefix(".") if out is not None else "table"
    if not named and ending not in list(Format):
        raise ValueError(f"{out} does not end in .csv, .json, .jsonl or .parquet. Say which with --format.")
    chosen = named[0] if named else Format(ending)
    if chosen is Format.parquet and out is None:
        raise ValueError("A Parquet file is not for the terminal: --out FILE.parquet.")
    return chosen


def _recordings(named: Sequence[Named] | Iterator[Named], asked: deque[Mapping[str, Any]]) -> Iterator[Recording]:
    """The recordings; the cells of each are left in `asked`, in the order in which predictions come back."""
    for recording, cells in named:
        asked.append(cells)
        yield recording


@contextmanager
def _writer(chosen: Format, out: Path | None, display: Display) -> Iterator[Writer]:
    """Where the rows go: each is there as soon as it is made, also in a file."""
    from undertone.inference.write import WRITERS, ParquetWriter

    with ExitStack() as stack:
        writer: Writer
        if out is not None and chosen is Format.parquet:
            writer = ParquetWriter(out)
        elif out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(out.open("w", encoding="utf-8", newline=""))
            writer = WRITERS[chosen](_flushing(file))
        else:
            writer = WRITERS[chosen](_to_terminal(display) if sys.stdout.isatty() else _flushing(sys.stdout))
        try:
            yield writer
        finally:  # what is made is kept, also after Ctrl-C
            writer.close()


def _flushing(stream: Any) -> Callable[[str], None]:
    def emit(text: str) -> None:
        stream.write(text)
        stream.flush()

    return emit


def _to_terminal(display: Display) -> Callable[[str], None]:
    """Above the progress bar, where there is one; no control character reaches the terminal."""
    if not display.console.is_terminal:
        return lambda text: _flushing(sys.stdout)(printable(text))
    return lambda text: display.console.print(printable(text), soft_wrap=True, end="")


def _check_order(model: str, files: Sequence[str]) -> None:
    """Refuse `predict FILE MODEL`."""
    if not Path(model).exists() or _is_model(Path(model)):
        return
    for word in files:
        on_hub = not Path(word).exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", word) and Path(model).is_file()
        if (_is_model(Path(word)) or on_hub) and Path(word).suffix.lower() not in (".wav", ".flac", ".mp3", ".ogg"):
            raise ValueError(f"The model comes first, the recordings behind it: undertone predict {word} {model}")


def _is_model(path: Path) -> bool:
    return any((folder / "config.json").is_file() for folder in (path, path / "model"))
