"""A timeline: what a model predicts over the time of a recording, as a table, as files and as a picture."""

from __future__ import annotations

import base64
import bisect
import html
import io
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertone.common.discovery import nearest
from undertone.common.files import atomic_path
from undertone.downstream.task import Task
from undertone.inference.format import NO_SPEECH, flat, html_table, task_key, to_json
from undertone.inference.write import Writer, as_csv

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")  # Tol's bright


@dataclass(frozen=True, repr=False)
class Timeline:
    """What `Predictor.predict_long` gives.

    Attributes:
        file: the recording.
        tasks: of the model.
        rows: a dict for each window, in the order of `start`: `start` and `end` (seconds), `channel` (1, 2, ...) where
            channels were split, `speaker` where segments name one, and a prediction for each task, as of
            `Predictor.predict`; in its place `no_speech` or `error`, a reason.

    Example:
        >>> timeline = model.predict_long("call.mp3", window=5, hop=1)  # doctest: +SKIP
        >>> timeline.to_pandas().groupby("emotion").size()  # doctest: +SKIP
        >>> timeline.save("call.png")  # doctest: +SKIP
    """

    file: str
    tasks: tuple[Task, ...]
    rows: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __repr__(self) -> str:
        end = max((row["end"] for row in self.rows), default=0.0)
        tasks = ", ".join(task.name for task in self.tasks)
        return f"Timeline({self.file!r}, {len(self)} windows, {end:.1f} s, tasks: {tasks})"

    def to_pandas(self) -> pandas.DataFrame:
        """One row a window, with the columns `start, end, channel, speaker, TASK, TASK_LABEL, ..., no_speech, error`.

        Those of `channel`, `speaker` and the reasons are there where any row has them. A task with classes has its
        label and a column of probabilities for each class.
        """
        import pandas

        return pandas.DataFrame([flat(row) for row in self.rows])

    def to_csv(self) -> str:
        """A line for each window, as `undertone predict --window` writes it: `file` and the columns of `to_pandas`."""
        return as_csv({"file": self.file} | row for row in self.rows)

    def to_jsonl(self) -> str:
        """A JSON object a line, with `file` and a row's entries."""
        return "".join(to_json({"file": self.file} | row) + "\n" for row in self.rows)

    def to_rttm(self) -> str:
        """NIST's Rich Transcription Time Marked: a line for each window with a speaker.

        `SPEAKER file channel start duration <NA> label speaker score <NA>`: the label of the first task with classes is
        in the field of the subtype, its probability in that of the confidence. Blanks in names become `_`.

        Raises:
            ValueError: no window has a speaker.
        """
        lines = []
        task = next((task for task in self.tasks if task.has_classes), None)
        for row in self.rows:
            if row.get("speaker") is None:
                continue
            label, score = "<NA>", "<NA>"
            if task is not None and (entry := row.get(task_key(task.name))) is not None:
                label, score = _word(entry["label"]), f"{entry['scores'][entry['label']]:.3f}"
            times = f"{row['start']:.3f} {row['end'] - row['start']:.3f}"
            name = f"{_word(Path(self.file).stem)} {row.get('channel', 1)}"
            lines.append(f"SPEAKER {name} {times} <NA> {label} {_word(row['speaker'])} {score} <NA>\n")
        if not lines:
            raise ValueError("RTTM is about speakers, and none is known here. Give segments with a column speaker.")
        return "".join(lines)

    def to_html(self) -> str:
        """A page that needs no other file: the picture, and the table of all windows below it."""
        picture = io.BytesIO()
        self.plot().savefig(picture, format="png", dpi=120)
        table = html_table([{name: _text(value) for name, value in flat(row).items()} for row in self.rows])
        title = html.escape(Path(self.file).name)
        image = base64.b64encode(picture.getvalue()).decode()
        return _PAGE.format(title=title, count=len(self), image=image, table=table)

    def save(self, path: str | Path) -> None:
        """Write the timeline, atomically, as the ending says: .csv, .jsonl, .rttm, .png or .html.

        Raises:
            ValueError: another ending, or RTTM without speakers.
        """
        path = Path(path)
        texts: dict[str, Callable[[], str]] = {
            ".csv": self.to_csv,
            ".jsonl": self.to_jsonl,
            ".rttm": self.to_rttm,
            ".html": self.to_html,
        }
        ending = path.suffix.lower()
        if ending not in (*texts, ".png"):
            raise ValueError(f"A timeline is not written as {path.name!r}.{nearest(ending, [*texts, '.png'])}")
        with atomic_path(path) as draft:
            if ending == ".png":
                self.plot().savefig(draft, format="png", dpi=150)
            else:
                draft.write_text(texts[ending](), encoding="utf-8")

    def plot(self) -> Figure:
        """A picture: a panel for each task with classes, its probabilities over time, and one for all values.

        A window stands for the time that is nearest to its middle, which is grey where there is no speech and yellow
        where the model is unsure. Speakers stand on top; channels have panels of their own.

        Raises:
            ValueError: there is no window to show.
        """
        from matplotlib.figure import Figure

        if not self.rows:
            raise ValueError("This timeline has no window to show.")
        channels = sorted({row.get("channel", 0) for row in self.rows})
        classes = [task for task in self.tasks if task.has_classes]
        values = [task for task in self.tasks if not task.has_classes]
        panels = [*((task,) for task in classes), *([tuple(values)] if values else [])]
        speakers = sorted({row["speaker"] for row in self.rows if row.get("speaker") is not None})
        heights = ([0.35] if speakers else []) + [1.0] * len(panels)
        height = 1.0 + len(channels) * sum(1.9 * one for one in heights)
        figure = Figure(figsize=(11, height), layout="constrained")
        axes = figure.subplots(
            len(channels) * len(heights), 1, sharex=True, squeeze=False, height_ratios=heights * len(channels)
        )[:, 0]
        places = iter(axes)
        for channel in channels:
            rows = [row for row in self.rows if row.get("channel", 0) == channel]
            suffix = f", channel {channel}" if channel else ""
            if speakers:
                _draw_speakers(next(places), rows, speakers, f"speaker{suffix}")
            for tasks in panels:
                _draw_panel(next(places), rows, tasks, suffix)
        axes[-1].set_xlabel("time (s)" if self.rows[-1]["end"] < 600 else "time (h:min:s)")
        if self.rows[-1]["end"] >= 600:
            axes[-1].xaxis.set_major_formatter(_clock)
        axes[0].set_xlim(self.rows[0]["start"], max(row["end"] for row in self.rows))
        figure.suptitle(Path(self.file).name.replace("$", r"\$"), fontsize=11)
        return figure


class TimelineWriter(Writer):
    """The windows of one recording as a file of a `Timeline`, written at the end.

    Args:
        path: see `Timeline.save`.
        tasks: of the model.
    """

    def __init__(self, path: Path, tasks: tuple[Task, ...]) -> None:
        self.path, self.tasks = path, tasks
        self.file = ""
        self.rows: list[dict[str, Any]] = []

    def write(self, row: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
        self.file = row["file"]
        if "start" in row:  # else the recording could not be opened
            self.rows.append({name: value for name, value in row.items() if name != "file"})

    def close(self) -> None:
        if self.rows:
            Timeline(self.file, self.tasks, self.rows).save(self.path)


def _word(text: str) -> str:
    return "_".join(str(text).split()) or "_"


def _clock(seconds: float, _: int) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)


def _draw_speakers(axes: Axes, rows: Sequence[Mapping[str, Any]], speakers: Sequence[str], title: str) -> None:
    for number, speaker in enumerate(speakers):
        spans = [(row["start"], row["end"] - row["start"]) for row in rows if row.get("speaker") == speaker]
        axes.broken_barh(spans, (number + 0.1, 0.8), color=_COLOURS[number % len(_COLOURS)])
    axes.set_yticks([number + 0.5 for number in range(len(speakers))], [name.replace("$", r"\$") for name in speakers])
    axes.set_ylim(0, len(speakers))
    axes.set_ylabel(title, fontsize=8)


def _draw_panel(axes: Axes, rows: Sequence[Mapping[str, Any]], tasks: Sequence[Task], suffix: str) -> None:
    """Lines over time; gaps where there is no prediction."""
    nan = float("nan")
    times = [(row["start"] + row["end"]) / 2 for row in rows]
    number = 0
    for task in tasks:
        found = [row.get(task_key(task.name)) for row in rows]
        for label in task.labels if task.has_classes else (task.name,):
            if task.has_classes:
                heights = [nan if entry is None else entry["scores"][label] for entry in found]
            else:
                heights = [nan if entry is None else entry for entry in found]
            colour = _COLOURS[number % len(_COLOURS)]
            style = ("-", "--", ":")[number // len(_COLOURS) % 3]
            marker = "." if len(rows) < 200 else ""
            axes.plot(times, heights, style, color=colour, label=label.replace("$", r"\$"), lw=1.3, marker=marker)
            number += 1
        unsure = [isinstance(entry, Mapping) and entry.get("unsure", False) for entry in found]
        _shade(axes, rows, unsure, "unsure", "#f4e7b5")
    for reason, colour in ((NO_SPEECH, "#dddddd"), ("error", "#f3cfcf")):
        _shade(axes, rows, [reason in row for row in rows], reason.replace("_", " "), colour)
    title = tasks[0].name if tasks[0].has_classes else "values"
    if tasks[0].has_classes:
        axes.set_ylim(0, 1)
    axes.set_ylabel(f"{title}{suffix}".replace("$", r"\$"), fontsize=9)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    axes.grid(axis="x", color="#eeeeee")


def _shade(axes: Axes, rows: Sequence[Mapping[str, Any]], chosen: Sequence[bool], label: str, colour: str) -> None:
    """Colour the time that the chosen windows stand for; the legend names it."""
    middles = sorted({(row["start"] + row["end"]) / 2 for row in rows})
    edges = [-math.inf, *((one + other) / 2 for one, other in itertools.pairwise(middles)), math.inf]
    spans = []
    for row in itertools.compress(rows, chosen):
        number = bisect.bisect_left(middles, (row["start"] + row["end"]) / 2)
        start, end = max(row["start"], edges[number]), min(row["end"], edges[number + 1])
        spans.append((start, end - start))
    if spans:
        across = axes.get_xaxis_transform()  # seconds, and 0 to 1 of the panel's height
        axes.broken_barh(spans, (0, 1), transform=across, color=colour, lw=0, zorder=0, label=label)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font-family: system-ui, sans-serif; margin: 1.5rem auto; max-width: 72rem; padding: 0 1rem; color: #222 }}
img {{ max-width: 100%; height: auto }}
div {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-size: .85rem }}
th, td {{ padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap }}
</style></head><body>
<h1>{title}</h1>
<p>{count} windows.</p>
<img alt="Predictions over the time of {title}" src="data:image/png;base64,{image}">
<details><summary>All windows</summary><div>{table}</div></details>
</body></html>
"""
