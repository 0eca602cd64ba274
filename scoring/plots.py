"""Figures: inline SVG for the report's pages and PNG for the model card. The same input gives the same bytes.

In SVG matplotlib draws with placeholder colours, which are replaced with CSS variables `var(--NAME)`: one figure serves
light and dark pages. No text of a user's (labels, fold names) is drawn in SVG: it stays in the page, which escapes it.
The `name` of an SVG is unique in its page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, ACCENT, SECOND = "#010101", "#020202", "#030303", "#040404", "#050505"
PNG_INK, PNG_ACCENT = "#222222", "#3b6fb6"
NUM_COLOURS = 10
CATEGORIES = [f"#0a0a{number:02x}" for number in range(NUM_COLOURS)]
MOST_DOTS = 1500  # of a picture of single values
MARKERS = ("o", "s", "^")  # one for each ten categories
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", ACCENT: "accent", SECOND: "second"}
_VARIABLES |= {colour: f"c{number}" for number, colour in enumerate(CATEGORIES)}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "undertone",
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}
_PNG_STYLE: dict[Any, Any] = {"font.size": 9, "text.color": PNG_INK, "axes.labelcolor": PNG_INK}
_DASHED: dict[str, Any] = {"linewidth": 1.2, "linestyle": (0, (4, 3))}


def layer_weights(weights: np.ndarray) -> str:
    """Bars of the mean of (folds, L >= 2) softmaxed weights, a dot for each fold, a dashed line at 1 / L."""
    with _drawing() as (figure, axes):
        axes.grid(False, axis="x")
        _draw_layer_weights(axes, weights, ACCENT, INK, SECOND)
        return _svg(figure, "layers", "Bar chart of the layer weights, mean over folds")


def layer_weights_png(weights: Sequence[float]) -> bytes:
    """Bars of the (L,) softmaxed layer weights of one model, a dashed line at the uniform weight 1 / L."""
    with _drawing(_PNG_STYLE, 5.2, 2.6) as (figure, axes):
        axes.spines[["top", "right"]].set_visible(False)
        _draw_layer_weights(axes, np.array([weights]), PNG_ACCENT, PNG_INK, PNG_INK)
        return _png(figure)


def _draw_layer_weights(axes: Axes, weights: np.ndarray, bars: str, dots: str, line: str) -> None:
    num_layers = weights.shape[1]
    layers = np.arange(num_layers)
    axes.bar(layers, weights.mean(axis=0), width=0.72, color=bars, linewidth=0)
    for row in weights if len(weights) > 1 else ():
        axes.plot(layers, row, "o", color=dots, markersize=2.6, alpha=0.5, markeredgewidth=0)
    axes.axhline(1 / num_layers, color=line, **_DASHED)
    axes.set(xlabel="layer (0 = input of the first block)", ylabel="weight", ylim=(0, None))
    axes.set_xticks(layers[:: 1 + num_layers // 14])


def confusion_png(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> bytes:
    """Of (C, C) counts: rows are true classes, columns predicted ones; colour and text are percent of the row."""
    counts = np.asarray(confusion, dtype=float)  # (C, C)
    percent = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    texts = [[f"{value:.0f}" for value in row] for row in percent]
    return _heat_map(percent, texts, labels, labels, ("predicted", "true"), 1.6 + 0.62 * len(labels), 35)


def matrix_png(
    rows: Sequence[str], columns: Sequence[str], values: np.ndarray, texts: Sequence[Sequence[str]]
) -> bytes:
    """A heat map of (R, C) values in 0..1, NaN blank, with a text in each: R training corpora, C test corpora."""
    return _heat_map(100 * values, texts, rows, columns, ("tested on", "trained on"), 2.2 + 1.3 * len(columns), 0)


def _heat_map(
    percent: np.ndarray,
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    axes_labels: tuple[str, str],
    width: float,
    rotation: int,
) -> bytes:
    """PNG of (R, C) percents and their texts."""
    with _drawing(_PNG_STYLE, width, 1.2 + 0.5 * len(rows)) as (figure, axes):
        axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for (row, column), value in np.ndenumerate(percent):
            colour = "white" if value > 55 else PNG_INK
            axes.text(column, row, texts[row][column], ha="center", va="center", color=colour)
        rows, columns = ([name.replace("$", r"\$") for name in names] for names in (rows, columns))  # no formulas
        axes.set_xticks(range(len(columns)), columns, rotation=rotation, ha="right" if rotation else "center")
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel=axes_labels[0], ylabel=axes_labels[1])
        axes.tick_params(length=0)
        return _png(figure)


def layer_scores(layers: Sequence[int], scores: np.ndarray, whole: float | None) -> str:
    """A line of the mean of (folds, layers) dev scores, a dot for each fold, a dashed line at that of the layer sum."""
    with _drawing() as (figure, axes):
        axes.plot(layers, scores.mean(axis=0), color=ACCENT, linewidth=1.8, marker="o", markersize=4.5)
        for row in scores:
            axes.plot(layers, row, "o", color=INK, markersize=2.6, alpha=0.5, markeredgewidth=0)
        if whole is not None:
            axes.axhline(whole, color=SECOND, **_DASHED)
        axes.set(xlabel="layer (0 = input of the first block)", ylabel="dev score")
        axes.set_xticks(layers[:: 1 + len(layers) // 14])
        return _svg(figure, "layer-scores", "Line chart of the dev score of each layer, mean over folds")


def curves(series: Sequence[Sequence[tuple[int, float]]], marks: Sequence[int | None], label: str, name: str) -> str:
    """A line over (step, value) pairs for each fold, with a dot at the step that was kept, unless that is None."""
    with _drawing() as (figure, axes):
        for points, mark in zip(series, marks, strict=True):
            axes.plot([step for step, _ in points], [value for _, value in points], color=ACCENT, lw=1.2, alpha=0.6)
            kept = [(step, value) for step, value in points if step == mark]
            axes.plot(*np.array(kept).reshape(-1, 2).T, "o", color=SECOND, markersize=4.5, markeredgewidth=0)
        axes.set(xlabel="training step", ylabel=label)
        axes.locator_params(axis="x", nbins=6)
        return _svg(figure, name, f"Line chart of the {label} over training, a line for each fold")


def reliability(count: np.ndarray, accuracy: np.ndarray, confidence: np.ndarray) -> str:
    """Accuracy against mean confidence of each of (bins,), dots as large as the bin is full, beside the diagonal."""
    full = count > 0
    with _drawing() as (figure, axes):
        axes.plot([0, 100], [0, 100], color=SECOND, **_DASHED)
        axes.plot(100 * confidence[full], 100 * accuracy[full], color=ACCENT, linewidth=1.2, alpha=0.6)
        sizes = 14 + 180 * count[full] / max(1, count.sum())
        axes.scatter(100 * confidence[full], 100 * accuracy[full], s=sizes, color=ACCENT, linewidth=0)
        axes.set(xlabel="confidence (%)", ylabel="correct (%)", xlim=(0, 102), ylim=(0, 102))
        return _svg(figure, "reliability", "Fraction of correct predictions against confidence")


def risk_coverage(coverage: np.ndarray, risk: np.ndarray) -> str:
    """The (K,) error rates on the most confident predictions, against the (K,) increasing fractions that are kept."""
    with _drawing() as (figure, axes):
        axes.axhline(100 * risk[-1], color=SECOND, **_DASHED)
        axes.plot(100 * coverage, 100 * risk, color=ACCENT, linewidth=1.8, drawstyle="steps-post")
        axes.fill_between(100 * coverage, 100 * risk, color=ACCENT, alpha=0.12, linewidth=0, step="post")
        axes.set(xlabel="coverage: most confident first (%)", ylabel="wrong (%)", xlim=(0, 102), ylim=(0, None))
        return _svg(figure, "risk", "Error rate on the most confident predictions")


def histogram(values: np.ndarray, name: str, what: str, count: str) -> str:
    """How often each range of the (N,) finite values occurs: `what` they are, and `count`, what is counted."""
    with _drawing(height=2.4) as (figure, axes):
        axes.hist(values, bins=min(40, max(8, round(len(values) ** 0.5))), color=ACCENT, linewidth=0, rwidth=0.92)
        axes.grid(False, axis="x")
        axes.set(xlabel=what, ylabel=count)
        return _svg(figure, name, f"Histogram of the {what}")


def true_predicted(target: np.ndarray, predicted: np.ndarray, name: str) -> str:
    """(N,) predicted against true values, a dot each, beside the diagonal; of many, `MOST_DOTS`, evenly chosen."""
    shown = np.unique(np.linspace(0, len(target) - 1, min(len(target), MOST_DOTS)).astype(int))
    target, predicted = target[shown], predicted[shown]
    both = np.concatenate([target, predicted]).astype(np.float64)
    margin = 0.04 * float(np.ptp(both)) or 0.5
    ends = (float(both.min()) - margin, float(both.max()) + margin)
    with _drawing(height=4.2) as (figure, axes):
        axes.plot(ends, ends, color=SECOND, **_DASHED)
        axes.scatter(target, predicted, s=14, color=ACCENT, alpha=0.45, linewidth=0)
        axes.set(xlabel="true", ylabel="predicted", xlim=ends, ylim=ends)
        return _svg(figure, name, "Predicted values against true ones")


def attention(weights: np.ndarray, level: np.ndarray, duration: float, name: str) -> str:
    """The weight of each frame, relative to equal weights, over the level of the audio.

    Args:
        weights: (T,) of frames that divide the clip evenly; they sum to 1.
        level: (N,) in 0..1, of segments that divide it evenly; may be empty.
        duration: seconds.
        name: of the picture.
    """
    relative = weights.astype(np.float64) * len(weights)
    top = max(1.15 * float(relative.max()), 1.5)
    with _drawing(height=1.7) as (figure, axes):
        if len(level):
            edges = np.linspace(0, duration, len(level) + 1)
            axes.stairs(top * level.astype(np.float64), edges, fill=True, color=GRID)
        axes.axhline(1, color=SECOND, linewidth=1.0, linestyle=(0, (4, 3)))
        middles = (np.arange(len(weights)) + 0.5) * duration / len(weights)
        axes.plot(middles, relative, color=ACCENT, linewidth=1.6)
        axes.grid(False)
        axes.set(xlabel="s", xlim=(0, duration), ylim=(0, top))
        axes.locator_params(axis="y", nbins=3)
        return _svg(figure, name, "Line chart of the attention over time, relative to equal weights")


def spectrogram(samples: np.ndarray, sample_rate: int, most: int = 800) -> np.ndarray:
    """(N,) -> (F, K) dB below the loudest, 0 Hz to half the rate; K <= `most`, each the loudest of its windows."""
    size, hop = round(0.025 * sample_rate), round(0.010 * sample_rate)
    padded = np.pad(samples, (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: max(1, hop)]  # (T, size)
    parts = np.array_split(np.arange(len(frames)), min(most, len(frames)))
    power = [np.square(np.abs(np.fft.rfft(frames[part] * np.hanning(size)))).max(0) for part in parts]
    level = 10 * np.log10(np.stack(power, axis=1) + 1e-12)  # (F, K)
    return np.asarray(level - level.max())


def explanation_svg(
    samples: np.ndarray,
    sample_rate: int,
    attributions: np.ndarray | None,
    attention: np.ndarray | None,
    name: str,
    wide: bool,
) -> str:
    """Waveform, spectrogram, attributions and attention of (N,) samples over one axis of time, for a screen or a phone.

    Attributions (T,) and attention (T',), which sums to 1, are of frames that divide the clip evenly; None: not drawn.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        rows = _explanation_rows(attributions, attention)
        figure = Figure(figsize=(10.0, 1.3 * sum(rows)) if wide else (4.4, 1.2 * sum(rows)), layout="constrained")
        axes = figure.subplots(len(rows), 1, sharex=True, height_ratios=rows, squeeze=False)[:, 0]
        _draw_explanation(list(axes), samples, sample_rate, attributions, attention, (ACCENT, SECOND, MUTED))
        return _svg(figure, name, "Waveform, spectrogram, attribution and attention over time")


def explanation_png(
    samples: np.ndarray,
    sample_rate: int,
    attributions: np.ndarray | None,
    attention: np.ndarray | None,
    scores: Sequence[tuple[str, float]],
    weights: np.ndarray | None,
    title: str,
) -> bytes:
    """As `explanation_svg`, with bars of the scores, 0 to 1, and the (L,) layer weights beneath, as PNG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_PNG_STYLE | {"text.parse_math": False}):
        rows = [*_explanation_rows(attributions, attention), 0.3 + 0.16 * max(5, len(scores))]
        figure = Figure(figsize=(9.0, 1.25 * sum(rows)), layout="constrained")
        grid = figure.add_gridspec(len(rows), 2, height_ratios=rows)
        axes = [figure.add_subplot(grid[0, :])]
        axes += [figure.add_subplot(grid[row, :], sharex=axes[0]) for row in range(1, len(rows) - 1)]
        _draw_explanation(axes, samples, sample_rate, attributions, attention, (PNG_ACCENT, "#c2570c", "#777777"))
        bars = figure.add_subplot(grid[-1, 0] if weights is not None else grid[-1, :])
        places = np.arange(len(scores))[::-1]
        bars.barh(places, [value for _, value in scores], color=PNG_ACCENT, height=0.7)
        for place, (_, value) in zip(places, scores, strict=True):
            bars.text(value + 0.01, place, f"{value:.2f}", va="center", fontsize=8)
        bars.set_yticks(places, [name for name, _ in scores])
        bars.set(xlim=(0, 1.08), xlabel="score")
        if weights is not None:
            layers = figure.add_subplot(grid[-1, 1])
            _draw_layer_weights(layers, weights[None], PNG_ACCENT, PNG_INK, PNG_INK)
        for own in figure.axes:
            own.spines[["top", "right"]].set_visible(False)
        figure.suptitle(title, fontsize=11)
        return _png(figure)


def _explanation_rows(attributions: np.ndarray | None, attention: np.ndarray | None) -> list[float]:
    """Heights of the pictures one below the other."""
    return [0.8, 1.4, *([1.0] if attributions is not None else []), *([0.8] if attention is not None else [])]


def _draw_explanation(
    axes: Sequence[Axes],
    samples: np.ndarray,
    sample_rate: int,
    attributions: np.ndarray | None,
    attention: np.ndarray | None,
    colours: tuple[str, str, str],
) -> None:
    """Each picture into its axes, which share the time."""
    accent, second, muted = colours
    duration, (top, middle, *rest) = len(samples) / sample_rate, axes
    parts = np.array_split(samples, min(1000, len(samples)))
    edges = np.linspace(0, duration, len(parts) + 1)
    top.stairs([part.max() for part in parts], edges, baseline=[part.min() for part in parts], fill=True, color=muted)
    top.set(ylabel="wave")
    top.set_yticks([])
    level = spectrogram(samples, sample_rate)
    extent = (0, duration, 0, sample_rate / 2000)
    middle.imshow(level, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=-70, vmax=0)
    middle.set(ylabel="kHz")
    for own in axes:
        own.grid(False)
    if attributions is not None:
        own, *rest = rest
        edges = np.linspace(0, duration, len(attributions) + 1)
        own.stairs(attributions.clip(min=0), edges, fill=True, color=accent)
        own.stairs(attributions.clip(max=0), edges, fill=True, color=second)
        own.axhline(0, color=muted, linewidth=0.6)
        own.set(ylabel="attribution")
    if attention is not None:
        own = rest[0]
        times = (np.arange(len(attention)) + 0.5) * duration / len(attention)
        own.axhline(1, color=second, linewidth=1.0, linestyle=(0, (4, 3)))
        own.plot(times, attention.astype(np.float64) * len(attention), color=accent, linewidth=1.5)
        own.set(ylabel="attention", ylim=(0, None))
    axes[-1].set(xlabel="s", xlim=(0, duration))
    for own in axes[:-1]:
        own.tick_params(labelbottom=False)


def scatter(points: np.ndarray, categories: np.ndarray, name: str) -> str:
    """(N, 2) points on a plane without axes, coloured by (N,) categories from 0; -1 = unknown, drawn faintly."""
    with _drawing(height=4.2) as (figure, axes):
        axes.set_axis_off()
        axes.set_aspect("equal", adjustable="datalim")
        for number in np.unique(categories):
            rows = categories == number
            colour = CATEGORIES[number % NUM_COLOURS] if number >= 0 else GRID
            marker = MARKERS[number // NUM_COLOURS % len(MARKERS)] if number >= 0 else "o"
            axes.scatter(points[rows, 0], points[rows, 1], s=52, c=colour, marker=marker, alpha=0.85, linewidth=0)
        return _svg(figure, name, "Map of the embeddings of the test utterances")


@contextmanager
def _drawing(style: dict[Any, Any] = _STYLE, width: float = 5.0, height: float = 3.0) -> Iterator[tuple[Figure, Axes]]:
    """A figure and its axes; matplotlib's global state and backend stay as they are."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as one self-contained <svg> element; its ids start with `name`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font-family: [^;]*", "font-family: inherit", text)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, f"var(--{variable})")
    return re.sub(r"\s*\n\s*", "\n", text).replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1).strip()
