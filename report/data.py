"""What a run was trained and tested on: clips, hours, speakers and lengths, by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from undertone.corpora.manifest import Manifest, Utterance
from undertone.downstream.task import Task
from undertone.report.tables import Table
from undertone.scoring import plots


def data_section(manifest: Manifest, task: Task) -> dict[str, Any]:
    """Facts [(name, text)], a table by class (if the task has classes), and the histogram of the lengths."""
    items = list(manifest)
    lengths = np.array([item.duration for item in items])
    speakers = {(item.corpus, item.speaker) for item in items if item.speaker is not None}
    facts = [("clips", f"{len(items):,}"), ("hours", _hours(items))]
    facts += [("speakers", f"{len(speakers):,}" if speakers else "not known")]
    for gender in sorted({item.gender for item in items if item.gender}):
        own = {(item.corpus, item.speaker) for item in items if item.gender == gender and item.speaker is not None}
        facts.append((gender, f"{len(own):,} speakers"))
    three = (lengths.min(), np.median(lengths), lengths.max())
    facts.append(("length, shortest – median – longest", " – ".join(f"{seconds:.1f}" for seconds in three) + " s"))
    low, high = np.quantile(lengths, [0.05, 0.95])
    return {
        "facts": facts,
        "table": _by_class(items, task) if task.kind == "classification" else None,
        "histogram": plots.histogram(lengths, "lengths", "length (s)", "clips"),
        "text": f"Length of the clips. Nine in ten have {low:.1f} to {high:.1f} s.",
    }


def _by_class(items: Sequence[Utterance], task: Task) -> Table:
    """A row for each class, one for the clips without a label if there are any, and one for all."""
    parts = {label: [item for item in items if item.label(task.name) == label] for label in task.labels}
    named = {item.id for part in parts.values() for item in part}
    parts |= {"other or none": rest} if (rest := [item for item in items if item.id not in named]) else {}
    genders = sorted({item.gender for item in items if item.gender})
    rows = []
    for label, part in [*parts.items(), ("all", list(items))]:
        counts = [sum(item.gender == gender for item in part) for gender in genders]
        speakers = len({(item.corpus, item.speaker) for item in part if item.speaker is not None})
        length = f"{np.mean([item.duration for item in part]):.1f}" if part else "–"
        rows.append([label, *(f"{n:,}" for n in (len(part), *counts)), str(speakers), _hours(part), length])
    return Table(f"Clips by {task.name}", [task.name, "clips", *genders, "speakers", "hours", "mean s"], rows)


def _hours(items: Sequence[Utterance]) -> str:
    return f"{sum(item.duration for item in items) / 3600:.2f}"
