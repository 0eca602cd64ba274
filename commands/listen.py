"""`undertone listen`: a model's predictions for live audio, window by window."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertone.commands.terminal import AllowOption, ModelArg
from undertone.common.console import printable

if TYPE_CHECKING:
    import numpy as np

PIECE = 0.1  # seconds that are read at once


def listen(
    model: ModelArg,
    source: Annotated[str, typer.Argument(help="mic, or -: 16 bit little-endian mono PCM from standard input")] = "mic",
    rate: Annotated[int, typer.Option(help="Hz of the audio", min=1_000, max=768_000)] = 16_000,
    window: Annotated[
        float | None, typer.Option(help="seconds; default: the median of the training clips, or 5")
    ] = None,
    hop: Annotated[float | None, typer.Option(help="seconds to the next window; default: half a window")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON Lines")] = False,
    any_sound: Annotated[
        bool | None,
        typer.Option(
            "--any-sound/--speech-only", help="whether to predict what is no speech; default: as the model says"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    allow: AllowOption = None,
) -> None:
    """Predict live audio, from the microphone or a pipe, until it ends or Ctrl-C."""
    if source not in ("mic", "-"):
        raise ValueError(f"listen takes mic or -, got {source!r}. A file goes to: undertone predict MODEL {source}")
    if source == "-" and sys.stdin.isatty():
        raise ValueError("listen - reads PCM from a pipe: arecord -t raw -f S16_LE -r 16000 | undertone listen MODEL -")

    from undertone.inference.predict import load_model

    predictor = load_model(model, device=device, allow=tuple(allow or ()), any_sound=any_sound)
    stream = predictor.stream(rate, window=window, hop=hop)
    pieces = _pipe(rate) if source == "-" else _microphone(rate)
    try:
        for row in stream.run(pieces):
            text = json.dumps(row, ensure_ascii=False) if as_json else _line(row)
            sys.stdout.write(printable(text) + "\n")
            sys.stdout.flush()
    except KeyboardInterrupt:
        return  # windows that were complete are printed


def _pipe(rate: int) -> Iterator[np.ndarray]:
    """(N,) float32 samples of what comes in, until the pipe ends."""
    import numpy as np

    while data := sys.stdin.buffer.read(2 * max(1, round(PIECE * rate))):
        yield np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32_768


def _microphone(rate: int) -> Iterator[np.ndarray]:
    """(N,) float32 samples of the default microphone; samples that were lost are said."""
    try:
        import sounddevice
    except ImportError as error:
        raise ValueError("The microphone needs sounddevice: pip install 'undertone[listen]'.") from error
    except OSError as error:
        raise ValueError(f"{error}. Install PortAudio (libportaudio2), or pipe PCM: listen MODEL -") from error
    count = max(1, round(PIECE * rate))
    try:
        with sounddevice.InputStream(samplerate=rate, channels=1, dtype="float32", blocksize=count) as microphone:
            while True:
                samples, lost = microphone.read(count)  # (N, 1)
                if lost:
                    sys.stderr.write("note: samples were lost; this machine is too slow for the model.\n")
                yield samples[:, 0].copy()
    except sounddevice.PortAudioError as error:
        raise ValueError(f"No microphone at {rate} Hz: {error}. Pipe PCM instead: undertone listen MODEL -") from error


def _line(row: dict[str, Any]) -> str:
    """`   2.0 -   5.0 s  emotion angry 0.83  gender female 0.97  arousal 0.51`."""
    cells = []
    for name, value in row.items():
        if name in ("start", "end"):
            continue
        if isinstance(value, dict):
            unsure = "unsure, " if value.get("unsure") else ""
            cells.append(f"{name} {unsure}{value['label']} {value['scores'][value['label']]:.2f}")
        elif name in ("no_speech", "error"):
            cells.append(str(value))
        else:
            cells.append(f"{name} {value:.2f}")
    return f"{row['start']:6.1f} - {row['end']:6.1f} s  {'  '.join(cells)}"
