"""`undertone predict`: a model's predictions for recordings, written as they are made."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertone.commands.inputs import Named, inputs_of
from undertone.commands.terminal import AllowOption, ModelArg, fail
from undertone.common.console import Display, printable

if TYPE_CHECKING:
    from undertone.inference.predict import Predictor
    from undertone.inference.recordings import Recording
    from undertone.inference.write import Writer


PICTURES = (".png", ".html", ".rttm")  # --out of one recording's windows


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
    window: Annotated[
        str | None, typer.Option(help="a row for each window of so many seconds; auto: as long as training clips")
    ] = None,
    hop: Annotated[float | None, typer.Option(help="seconds to the next window; default: half a window")] = None,
    channels: Annotated[str, typer.Option(help="mean; split: a row for each channel")] = "mean",
    segments: Annotated[
        Path | None, typer.Option(help="a row for each line of a table with columns start, end and speaker")
    ] = None,
    any_sound: Annotated[
        bool | None,
        typer.Option("--any-sound/--speech-only", help="predict what is no speech; default: as the model says"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    batch_seconds: Annotated[
        float | None, typer.Option(help="audio in a batch; default: 60 on a GPU, one file on a CPU")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="of the CPU; default: all cores")] = None,
    label_map: Annotated[
        str | None,
        typer.Option("--map", help="names for a published model's labels, OURS=MODEL_LABEL,...: joy=happy"),
    ] = None,
    fold: Annotated[str | None, typer.Option(help="of a run: the model of this fold")] = None,
    revision: Annotated[str | None, typer.Option(help="of a Hub id: branch, tag or commit")] = None,
    allow: AllowOption = None,
) -> None:
    """Predict emotion, gender, ... of recordings; exit status 1 if one of them failed."""
    windows = _windows(window, hop, channels, segments)
    picture = out if windows is not None and out is not None and out.suffix.lower() in PICTURES else None
    chosen = Format.jsonl if picture is not None else _format(out, format, as_json, as_csv)
    if windows is not None and (embeddings or attention):
        raise ValueError("--embeddings and --attention are of whole recordings. Leave them out, or --window.")
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
        predictor = load_model(
            model, fold=fold, revision=revision, device=where, allow=tuple(allow or ()), any_sound=any_sound
        )
        if label_map is not None:
            predictor = _renamed(predictor, label_map)
        stack.enter_context(packed(predictor.model) if predictor.model.device.type == "cpu" else nullcontext())
        advance = stack.enter_context(display.bar("predict"))
        if picture is not None:
            _save_timeline(predictor, list(named), windows or {}, picture)
            return
        writer = stack.enter_context(_writer(chosen, out, display))
        asked: deque[Mapping[str, Any]] = deque()
        rows: Iterator[Mapping[str, Any]]
        if windows is not None:
            rows = _rows_of_windows(predictor, named, asked, windows | {"batch_seconds": batch_seconds})
        else:
            rows = predictor.predict_each(
                _recordings(named, asked), batch_seconds=batch_seconds, embeddings=embeddings, attention=attention
            )
        failed, count = [], 0
        for count, row in enumerate(rows, 1):
            writer.write(row, asked.popleft())
            if "error" in row:
                failed.append(row)
            if isinstance(named, Sized) and windows is None:
                advance(count, len(named), "")
    if failed:
        for row in failed:
            print(printable(f"{row['file']}: {row['error']}"), file=sys.stderr)
        fail(f"{len(failed)} of {count} {'rows' if windows is not None else 'recordings'} could not be predicted.", 1)


def _windows(window: str | None, hop: float | None, channels: str, segments: Path | None) -> dict[str, Any] | None:
    """What `predict_windows` takes of these options; None: none was given, a row is a whole recording."""
    if window is None and hop is None and channels == "mean" and segments is None:
        return None
    try:
        seconds = None if window in (None, "auto") else float(window or "")
    except ValueError as error:
        raise ValueError(f"--window takes seconds or auto, got {window!r}.") from error
    return {"window": seconds, "hop": hop, "channels": channels, "segments": segments}


def _rows_of_windows(
    predictor: Predictor, named: Iterable[Named], asked: deque[Mapping[str, Any]], options: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """The windows of each recording, each row with its file; a file that cannot be opened is one row."""
    from undertone.audio.read import AudioError
    from undertone.inference.windows import predict_windows

    for recording, cells in named:
        own = dict(options)
        if own["segments"] is None and (recording.start is not None or recording.end is not None):
            own["segments"] = [(recording.start or 0.0, recording.end or recording.seconds())]
        try:
            for row in predict_windows(predictor.model, recording.path or "", any_sound=predictor.any_sound, **own):
                asked.append(cells)
                yield {"file": recording.name} | row
        except AudioError as error:
            asked.append(cells)
            yield {"file": recording.name, "error": error.reason}


def _save_timeline(predictor: Predictor, named: Sequence[Named], options: Mapping[str, Any], out: Path) -> None:
    """The picture, page or RTTM of one recording."""
    if len(named) != 1:
        raise ValueError(
            f"{out.suffix} holds one recording, got {len(named)}. Give one, or --out FILE.csv for several."
        )
    timeline = predictor.predict_long(named[0][0].path or "", **options)
    timeline.save(out)
    bad = [row["error"] for row in timeline if "error" in row]
    if bad:
        fail(f"{len(bad)} of {len(timeline)} windows could not be predicted: {bad[0]}", 1)


def _renamed(predictor: Predictor, label_map: str) -> Predictor:
    """Of a model that transformers saved: its labels under other names."""
    from undertone.corpora.own.labels import parse_map
    from undertone.downstream.transformers_model import TransformersModel
    from undertone.inference.predict import Predictor

    if not isinstance(predictor.model, TransformersModel):
        raise ValueError(
            "--map gives other names to the labels of a published transformers model; this one was trained with its "
            "own. Leave it out, or `undertone evaluate` with --map."
        )
    names = {theirs: ours for ours, theirs in parse_map(label_map).items()}
    return Predictor(predictor.model.renamed(names), predictor.name, predictor.any_sound)


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
