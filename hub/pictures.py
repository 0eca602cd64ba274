"""The pictures of a card, as PNG: the same input gives the same bytes, so that nothing new is pushed for them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, ACCENT = "#222222", "#3b6fb6"


def confusion_picture(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> bytes:
    """Rows are true classes, columns predicted ones; colour and text are shares of the row, in percent.

    Args:
        labels: the C classes in order.
        confusion: (C, C) counts.
    """
    counts = np.asarray(confusion, dtype=float)  # (C, C)
    shares = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    figure = _figure(1.6 + 0.62 * len(labels), 1.2 + 0.5 * len(labels))
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", color="white" if share > 55 else INK)
    ticks = range(len(labels))
    axes.set_xticks(ticks, _plain(labels), rotation=35, ha="right")
    axes.set_yticks(ticks, _plain(labels))
    axes.set(xlabel="predicted", ylabel="true")
    axes.tick_params(length=0)
    return _png(figure)


def layer_weights_picture(weights: Sequence[float]) -> bytes:
    """Bars of the (L,) softmaxed layer weights, and a dashed line at 1 / L, where they started."""
    figure = _figure(5.2, 2.6)
    axes = figure.add_subplot()
    axes.bar(range(len(weights)), weights, color=ACCENT, width=0.72)
    axes.axhline(1 / len(weights), color=INK, linewidth=1, linestyle="--")
    axes.set(xlabel="layer (0 = input of the first block)", ylabel="weight")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xticks(range(0, len(weights), 1 + len(weights) // 14))
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _plain(labels: Sequence[str]) -> list[str]:
    return [label.replace("$", r"\$") for label in labels]  # a label is no formula


def _png(figure: Figure) -> bytes:
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"font.size": 9, "text.color": INK, "axes.labelcolor": INK}):
        figure.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
