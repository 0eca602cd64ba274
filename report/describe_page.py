"""The page of a described corpus: its facts, labels by gender, and histograms of its signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from undertone.common.files import write_json
from undertone.corpora.describe import Signal, rows
from undertone.scoring import plots
from undertone.scoring.pages import write_page


def write_description(name: str, facts: Mapping[str, Any], signals: Sequence[Signal], out: Path) -> Path:
    """Write OUT/describe.json and OUT/describe.html, a self-contained page; returns the page's path."""
    write_json(out / "describe.json", {"corpus": name, **facts})
    genders = list(facts["genders"])
    most = max((counts[gender] for counts in facts["labels"].values() for gender in genders), default=1)
    return write_page(
        out / "describe.html",
        Path(__file__).with_name("describe.html.j2"),
        name=name,
        facts=facts,
        rows=rows(facts),
        genders=[(gender, "unknown" if gender == "None" else gender) for gender in genders],
        most=max(most, 1),
        speakers=sorted(facts["speakers"].items(), key=lambda item: (-item[1], item[0])),
        pictures=[
            (title, plots.histogram(np.array([getattr(signal, name) for signal in signals]), name, unit, "utterances"))
            for title, name, unit in (
                ("Duration", "duration", "s"),
                ("Level", "level", "root mean square, dBFS"),
                ("Bandwidth", "bandwidth", "Hz"),
            )
        ],
    )
