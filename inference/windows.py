"""Predictions over time of a recording of any length: its windows, or the segments of a table, in bounded memory."""

from __future__ import annotations

import csv
import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undertone.audio.batches import ahead
from undertone.audio.read import AudioError, AudioInfo, audio_info, resampled, span_samples
from undertone.audio.spans import Span, read_spans, windows
from undertone.common.discovery import nearest
from undertone.downstream.model import UndertoneModel
from undertone.downstream.transformers_model import TransformersModel
from undertone.inference.format import Prediction, mean_if_over_time
from undertone.inference.waves import Found, batch_limit, check_sound_alone, predict_waves
from undertone.upstream.execution import side_by_side

WINDOW = 5.0  # seconds, of a model that does not say how long its training clips were
LONGEST = 30.0  # seconds that such a model takes whole
CHANNELS = ("mean", "split")
_COLUMNS = ("start", "end", "speaker")

Segment = tuple[float, float, str | None]


def window_seconds(
    model: UndertoneModel | TransformersModel, window: float | None = None, hop: float | None = None
) -> tuple[float, float, float]:
    """Seconds of a window, seconds from one to the next, and seconds up to which a recording is taken whole.

    A given window holds for all that is longer. The default is the median length of the clips that the model was
    trained on, for recordings longer than the longest of them; of a model that does not say, 5 s above 30 s. The hop
    is half a window.

    Raises:
        ValueError: not 0 < hop <= window, or a window that is longer than the upstream takes.
    """
    limit = model.upstream.max_seconds
    trained = model.config.trained_on.get("clip_seconds", {})
    chosen = min(trained.get("median", WINDOW), limit) if window is None else window
    longest = min(max(trained.get("longest", LONGEST), chosen), limit) if window is None else window
    step = chosen / 2 if hop is None else hop
    if not (_is_number(chosen) and 0 < chosen <= limit):
        most = f", at most {limit:g} s, which the upstream {model.upstream.name} takes" if limit < math.inf else ""
        raise ValueError(f"window={window!r} must be seconds above 0{most}.")
    if not (_is_number(step) and 0 < step <= chosen):
        raise ValueError(f"hop={hop!r} must be seconds above 0 and at most the window's {chosen:g} s.")
    return chosen, step, longest


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def predict_windows(
    model: UndertoneModel | TransformersModel,
    path: str | PathLike[str],
    *,
    window: float | None = None,
    hop: float | None = None,
    channels: str = "mean",
    segments: str | PathLike[str] | Iterable[Any] | None = None,
    batch_seconds: float | None = None,
    any_sound: bool = False,
) -> Iterator[Prediction]:
    """A row for each window of a recording, in the order of time, given as soon as it is computed.

    The file is decoded block by block, each window is cut at the file's own rate and resampled by itself: its scores
    are those of that stretch as a clip.

    Args:
        model: on its device, in eval mode.
        path: a file that libsndfile reads, of any length.
        window: seconds; None: see `window_seconds`.
        hop: seconds from the start of a window to that of the next; None: half a window.
        channels: `mean` averages them, `split` predicts each apart.
        segments: the stretches to predict, `(start, end, speaker)` or `{"start", "end", "speaker"}`, seconds, or a
            table of them (`read_segments`); None: the whole recording. A segment longer than a window has several.
        batch_seconds: as `Predictor.predict`.
        any_sound: predict what is no speech too.

    Yields:
        `{"start", "end": seconds, "channel": 1, 2, ... with `split`, "speaker": name or None where any segment has one,
        task: prediction}`; in place of predictions `no_speech` or `error`, a reason. Values per frame are their mean.

    Raises:
        AudioError: the file cannot be opened, or a segment is empty or outside it. What is damaged further on is an
            `error` of its rows.
        ValueError: a window, a hop, channels or a table of segments that cannot be.
    """
    check_sound_alone(model, "Windows, channels and segments are")
    seconds, step, longest = window_seconds(model, window, hop)
    if channels not in CHANNELS:
        raise ValueError(f"channels={channels!r} must be {' or '.join(CHANNELS)}.{nearest(channels, CHANNELS)}")
    info = audio_info(path)
    whole = _segments(path, info, segments)
    rate = info.sample_rate
    lengths = max(1, round(seconds * rate)), max(1, round(step * rate))
    parts = ([span] if span.last - span.first <= longest * rate else windows(span, *lengths) for span in whole)
    spans = heapq.merge(*parts, key=lambda span: span.first)
    split, named = channels == "split", any(span.speaker is not None for span in whole)
    batches = _batches(read_spans(path, spans, split), batch_limit(model, batch_seconds) * rate)
    to_rate, rows = model.sample_rate, info.channels if split else 1

    def prepare(batch: Sequence[_Read]) -> list[list[Tensor] | AudioError]:
        return [
            found
            if isinstance(found, AudioError)
            else [resampled(row, rate, to_rate) for row in torch.from_numpy(found)]
            for _, found in batch
        ]

    if model.device.type == "cpu":
        done = side_by_side(model, batches, lambda twin, batch: _predict(twin, prepare(batch), any_sound, rows))
    else:
        done = ((batch, _predict(model, waves, any_sound, rows)) for batch, waves in ahead(batches, prepare))
    for batch, results in done:
        for (span, _), found in zip(batch, results, strict=True):
            speaker = {"speaker": span.speaker} if named else {}
            for channel, result in enumerate(found, 1):
                facts = {"channel": channel, **speaker} if split else speaker
                yield window_row(span.first, span.last, rate, result, facts)


_Read = tuple[Span, np.ndarray | AudioError]


def _batches(spans: Iterator[_Read], most: float) -> Iterator[list[_Read]]:
    """Consecutive spans, with padding at most `most` samples of the file, or one span."""
    batch: list[_Read] = []
    longest = 0
    for span, found in spans:
        rows = len(found) if isinstance(found, np.ndarray) else 1
        longest = max(longest, span.last - span.first)
        if batch and longest * rows * (len(batch) + 1) > most:
            yield batch
            batch, longest = [], span.last - span.first
        batch.append((span, found))
    if batch:
        yield batch


def _predict(
    model: UndertoneModel | TransformersModel, waves: list[list[Tensor] | AudioError], any_sound: bool, channels: int
) -> list[list[Found]]:
    """The results of each span, one a channel."""
    flat = [wave for found in waves if not isinstance(found, AudioError) for wave in found]
    results = iter(predict_waves(model, flat, any_sound=any_sound))
    return [[found] * channels if isinstance(found, AudioError) else [next(results) for _ in found] for found in waves]


def window_row(first: int, last: int, rate: int, found: Found, facts: Mapping[str, Any]) -> Prediction:
    """The row of a window, from sample `first` to before `last`; `facts` are its channel and speaker."""
    row: Prediction = {"start": first / rate, "end": last / rate, **facts}
    if isinstance(found, ValueError):
        return row | {"error": found.reason if isinstance(found, AudioError) else str(found)}
    return row | {key: mean_if_over_time(value) for key, value in found.items() if key != "duration"}


# ---- Segments.


def read_segments(path: str | PathLike[str]) -> list[Segment]:
    """The segments of a CSV or TSV table with the columns `start`, `end` (seconds) and, if known, `speaker`.

    Raises:
        ValueError: no such file, no such columns, or a time that is no number; the line is named.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Cannot read the table of segments {path}: {error}.") from error
    reader = csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in text.partition("\n")[0] else ",")
    if not {"start", "end"} <= set(reader.fieldnames or ()):
        found = ", ".join(map(str, reader.fieldnames or ())) or "nothing"
        raise ValueError(f"{path} must have the columns start, end and, if known, speaker; its first line has {found}.")
    return [_segment(row, f"{path}, line {reader.line_num}") for row in reader]


def _segment(given: Any, where: str) -> Segment:
    """(start, end, speaker) of what a caller or a table gives."""
    values: list[Any] = [given.get(name) for name in _COLUMNS] if isinstance(given, Mapping) else [*given, None][:3]
    try:
        start, end = float(values[0]), float(values[1])
    except (TypeError, ValueError, IndexError):
        start = end = math.nan
    if not (math.isfinite(start) and math.isfinite(end)):
        raise ValueError(f"{where}: start and end must be seconds, got {values[:2]}.")
    return start, end, str(values[2]) if values[2] not in (None, "") else None


def _segments(
    path: str | PathLike[str], info: AudioInfo, given: str | PathLike[str] | Iterable[Any] | None
) -> list[Span]:
    """The segments in samples of the file; without any, the whole of it."""
    if given is None:
        return [Span(0, info.num_samples)]
    if isinstance(given, str | PathLike):
        where, segments = str(given), read_segments(given)
    else:
        where, segments = "segments", [_segment(one, f"segment {number}") for number, one in enumerate(given, 1)]
    if not segments:
        raise ValueError(f"{where}: there is no segment.")
    return [
        Span(*span_samples(path, info.num_samples, info.sample_rate, start, end), speaker)
        for start, end, speaker in segments
    ]
