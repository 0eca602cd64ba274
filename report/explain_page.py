"""The page and the picture of an explanation: what a prediction for one clip rests on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from undertone.common.files import write_bytes
from undertone.inference.explain import Explanation
from undertone.inference.format import ATTENTION
from undertone.report.tables import Table
from undertone.scoring import plots
from undertone.scoring.pages import write_page


def write_explanation(found: Explanation, out: Path) -> tuple[Path, Path]:
    """Write OUT.html, a self-contained page, and OUT.png; returns both paths."""
    attention = found.prediction.get(ATTENTION)
    weights = np.array(attention["weights"]) if isinstance(attention, Mapping) else None
    picture = (found.samples, found.sample_rate, found.attributions, weights)
    tasks = [(name, entry) for name, entry in found.prediction.items() if name not in ("file", "duration", ATTENTION)]
    layers = None
    if found.layer_weights is not None:
        layers = plots.layer_weights(found.layer_weights[None])
    html, png = (out.with_name(f"{out.name}{suffix}") for suffix in (".html", ".png"))
    write_page(
        html,
        Path(__file__).with_name("explain.html.j2"),
        name=Path(found.file).name,
        found=found,
        attention=weights is not None,
        wide=plots.explanation_svg(*picture, "wide", True),
        narrow=plots.explanation_svg(*picture, "narrow", False),
        tasks=[_task(name, entry) for name, entry in tasks],
        layers=layers,
        strongest=_strongest(found),
    )
    title = f"{Path(found.file).name}: {found.task.name} {found.target or f'{found.score:.2f}'}"
    scores = [
        (f"{name}: {label}", value)
        for name, entry in tasks
        if isinstance(entry, Mapping) and "scores" in entry
        for label, value in entry["scores"].items()
    ]
    write_bytes(png, plots.explanation_png(*picture, scores, found.layer_weights, title))
    return html, png


def _task(name: str, entry: Any) -> dict[str, Any]:
    """The answer as text and, of classes, the bars with the table to copy."""
    if isinstance(entry, Mapping) and "scores" in entry:
        rows = [[label, f"{value:.4f}"] for label, value in entry["scores"].items()]
        bars = list(entry["scores"].items())
        return {"name": name, "said": entry["label"], "bars": bars, "table": Table(name, [name, "score"], rows)}
    value = entry["mean"] if isinstance(entry, Mapping) else entry
    return {"name": name, "said": f"{value:.2f}", "bars": [], "table": None}


def _strongest(found: Explanation) -> Table | None:
    """The tenths of a second that add most to the score."""
    if found.attributions is None:
        return None
    count = max(1, round(found.duration / 0.1))
    middles = (np.arange(len(found.attributions)) + 0.5) * found.duration / len(found.attributions)
    sums = np.bincount(np.minimum((middles / 0.1).astype(int), count - 1), found.attributions, count)
    order = np.argsort(-sums, kind="stable")[:5]
    rows = [[f"{place / 10:.1f} – {place / 10 + 0.1:.1f}", f"{sums[place]:+.3f}"] for place in order]
    return Table("What adds most to the score", ["seconds", "attribution"], rows)
