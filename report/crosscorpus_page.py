"""The page of a train x test matrix: a heat map as a table, and as a picture for a paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from undertone.common.files import write_bytes
from undertone.experiments.crosscorpus import cell_texts, crosscorpus_table
from undertone.report.tables import Table
from undertone.scoring.pages import write_page
from undertone.scoring.plots import matrix_png


def write_matrix(found: Mapping[str, Any], out: Path) -> Path:
    """Write OUT/crosscorpus.html, a self-contained page, and OUT/crosscorpus.png; returns the page's path."""
    names, trained = found["corpora"], list(found["cells"])
    grid = [[found["cells"][train].get(test) for test in names] for train in trained]
    texts = [[cell_texts(cell, found["metric"]) for cell in row] for row in grid]
    values = np.array(
        [[cell["value"] if cell and cell["value"] is not None else np.nan for cell in row] for row in grid]
    )
    picture = matrix_png(trained, names, values, [["\n".join(filter(None, cell)) for cell in row] for row in texts])
    write_bytes(out / "crosscorpus.png", picture)
    notes = list(dict.fromkeys(note for results in found["results"].values() for note in results["warnings"]))
    titles, header, rows = crosscorpus_table(found)
    return write_page(
        out / "crosscorpus.html",
        Path(__file__).with_name("crosscorpus.html.j2"),
        found=found,
        titles=titles,
        table=Table(titles[0], header, rows),
        notes=notes,
        cells=[
            (train, [(*cell, float(np.nan_to_num(value))) for cell, value in zip(row, line, strict=True)])
            for train, row, line in zip(trained, texts, values.clip(0, 1), strict=True)
        ],
    )
