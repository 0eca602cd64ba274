"""`undertone predict`: a model's predictions for recordings, written as they are made."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from undertone.commands.inputs import Named, inputs_of
from undertone.commands.terminal import AllowOption, ModelArg, fail
from undertone.common.console import Display, printable

if TYPE_CHECKING:
    from undertone.inference.predict import Predictor
    from undertone.inference.recordings import Recording
    from undertone.inference.write import Writer


TIMELINES = (".png", ".html", ".rttm")  # endings of --out for the windows of one recording
Row = tuple[Mapping[str, Any], Mapping[str, Any]]  # a row, and the cells of the table that names its recording


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
    channels: Annotated[Literal["mean", "split"], typer.Option(help="split: a row for each channel")] = "mean",
    segments: Annotated[
        Path | None, typer.Option(help="a row for each line of a table with columns start, end and speaker")
    ] = None,
    any_sound: Annotated[
        bool | None,
        typer.Option("--any-sound/--speech-only", help="predict what is no speech; default: as the model says"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    mixed_precision: Annotated[
        str, typer.Option(help="of the upstream: no, bf16, fp16, int8; auto: bf16 where it is computed natively")
    ] = "no",
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
    seconds = _seconds(window)
    in_windows = channels == "split" or any(option is not None for option in (window, hop, segments))
    chosen = _format(out, format, as_json, as_csv, in_windows)
    _check_extras(chosen, in_windows, {"--embeddings": embeddings, "--attention": attention})
    _check_order(model, files)
    with ExitStack() as stack:
        named = inputs_of(files, stack, _note)
        if chosen is None:
            named = _only_one(list(named), out)

        import torch

        from undertone.inference.predict import load_model
        from undertone.inference.windows import window_seconds
        from undertone.upstream.linear_layers import packed

        if threads is not None:
            torch.set_num_threads(threads)
        predictor = load_model(
            model,
            fold=fold,
            revision=revision,
            device=device,
            allow=tuple(allow or ()),
            any_sound=any_sound,
            mixed_precision=mixed_precision,
        )
        if label_map is not None:
            predictor = _renamed(predictor, label_map)
        *_, longest = window_seconds(predictor.model, seconds, hop)  # a wrong one is refused before --out is opened
        if in_windows:
            options = {"window": seconds, "hop": hop, "channels": channels, "batch_seconds": batch_seconds}
            rows = _rows_of_windows(predictor, named, segments, options)
        else:
            options = {"embeddings": embeddings, "attention": attention, "batch_seconds": batch_seconds}
            rows = _rows_of_recordings(predictor, named, options)
        stack.enter_context(packed(predictor.model) if predictor.model.device.type == "cpu" else nullcontext())
        display = Display(quiet=not sys.stderr.isatty())
        advance = stack.enter_context(display.bar("predict"))
        writer = stack.enter_context(_writer(chosen, out, display, predictor))
        failed: list[Any] = []
        long = count = 0
        for count, (row, cells) in enumerate(rows, 1):
            writer.write(row, cells)
            if "error" in row:
                failed.append(row)
            long += not in_windows and row.get("duration", 0) > longest
            if isinstance(named, Sized) and not in_windows:
                advance(count, len(named), "")
    if long:
        _note(
            f"note: {long} of {count} recordings last over {longest:g} s, which is long for this model, and were taken "
            f"whole. --window auto gives a row for each window."
        )
    _report(failed, count, "rows" if in_windows else "recordings")


def _check_extras(chosen: Format | None, in_windows: bool, extras: Mapping[str, bool]) -> None:
    """Refuse vectors of windows, and in the table of the terminal."""
    for option in (name for name, wanted in extras.items() if wanted):
        if in_windows:
            raise ValueError("--embeddings and --attention are of whole recordings. Leave them out, or --window.")
        if chosen is Format.table:
            raise ValueError(f"{option} needs a format that holds it: --format csv, json, jsonl or parquet.")


def _report(failed: Sequence[Mapping[str, Any]], count: int, what: str) -> None:
    """Say which of so many could not be predicted, and end with status 1 if there are any."""
    for row in failed:
        _note(f"{row['file']}: {row['error']}")
    if failed:
        fail(f"{len(failed)} of {count} {what} could not be predicted.", 1)


def _note(line: str) -> None:
    print(printable(line), file=sys.stderr)


def _seconds(window: str | None) -> float | None:
    """Seconds of --window; None: the default of the model."""
    if window is None or window == "auto":
        return None
    try:
        return float(window)
    except ValueError as error:
        raise ValueError(f"--window takes seconds or auto, got {window!r}.") from error


def _only_one(named: list[Named], out: Path | None) -> list[Named]:
    """Refuse several recordings where one file shows one."""
    if len(named) != 1 and out is not None:
        raise ValueError(
            f"{out.suffix} holds one recording, got {len(named)}. Give one, or --out FILE.csv for several."
        )
    return named


def _rows_of_recordings(predictor: Predictor, named: Iterable[Named], options: Mapping[str, Any]) -> Iterator[Row]:
    """A row for each recording, with the cells of the table that names it."""
    asked: deque[Mapping[str, Any]] = deque()

    def recordings() -> Iterator[Recording]:
        for recording, cells in named:
            asked.append(cells)
            yield recording

    for row in predictor.predict_each(recordings(), **options):  # in the order of the recordings
        yield row, asked.popleft()


def _rows_of_windows(
    predictor: Predictor, named: Iterable[Named], table: Path | None, options: Mapping[str, Any]
) -> Iterator[Row]:
    """The windows of each recording; a file that cannot be opened is one row."""
    from undertone.audio.read import AudioError
    from undertone.inference.windows import predict_windows

    for recording, cells in named:
        try:
            own = {"segments": _segments(recording, table), "any_sound": predictor.any_sound}
            for row in predict_windows(predictor.model, recording.path or "", **own, **options):
                yield {"file": recording.name} | row, cells
        except AudioError as error:
            yield {"file": recording.name, "error": error.reason}, cells


def _segments(recording: Recording, table: Path | None) -> Any:
    """The parts of a recording that are predicted: those of `--segments`, or the span of its row; None: all of it."""
    from undertone.audio.read import audio_info

    if recording.start is None and recording.end is None:
        return table
    if table is not None:
        raise ValueError(f"--segments is for whole recordings, and {recording.name} has start or end in its own table.")
    end = audio_info(recording.path or "").duration if recording.end is None else recording.end
    return [(recording.start or 0.0, end)]


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
    mapping = parse_map(label_map)
    names = {theirs: ours for ours, theirs in mapping.items()}
    if len(names) < len(mapping):
        raise ValueError(f"--map gives a label of the model two names: {label_map!r}. Keep one of them.")
    return Predictor(predictor.model.renamed(names), predictor.name, predictor.any_sound)


def _format(out: Path | None, format: Format | None, as_json: bool, as_csv: bool, windows: bool) -> Format | None:
    """The only format that was asked for; None: that of a timeline, as `out` ends."""
    named = [*([format] if format else []), *([Format.json] if as_json else []), *([Format.csv] if as_csv else [])]
    if len(named) > 1:
        raise ValueError(f"One format at a time: --format, --json and --csv ask for {' and '.join(named)}.")
    ending = out.suffix.lower() if out is not None else ".table"
    if not named and ending in TIMELINES:
        if not windows:
            raise ValueError(f"{out} would show the windows of a recording. Add --window auto.")
        return None
    if not named and ending.removeprefix(".") not in list(Format):
        raise ValueError(f"{out} does not end in .csv, .json, .jsonl or .parquet. Say which with --format.")
    chosen = named[0] if named else Format(ending.removeprefix("."))
    if chosen is Format.parquet and out is None:
        raise ValueError("A Parquet file is not for the terminal: --out FILE.parquet.")
    return chosen


@contextmanager
def _writer(chosen: Format | None, out: Path | None, display: Display, predictor: Predictor) -> Iterator[Writer]:
    """Where the rows go: each is there as soon as it is made, also in a file."""
    from undertone.inference.timeline import TimelineWriter
    from undertone.inference.write import WRITERS, ParquetWriter

    with ExitStack() as stack:
        writer: Writer
        if out is not None and chosen is None:
            writer = TimelineWriter(out, predictor.tasks)
        elif out is not None and chosen is Format.parquet:
            writer = ParquetWriter(out)
        elif out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(out.open("w", encoding="utf-8", newline=""))
            writer = WRITERS[chosen or Format.table](_flushing(file))
        else:
            emit = _to_terminal(display) if sys.stdout.isatty() else _flushing(sys.stdout)
            writer = WRITERS[chosen or Format.table](emit)
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
            raise ValueError(f"The model comes first, then the recordings: undertone predict {word} {model}")


def _is_model(path: Path) -> bool:
    return any((folder / "config.json").is_file() for folder in (path, path / "model"))
