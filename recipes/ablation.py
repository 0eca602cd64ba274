"""A system's own ablation: rows that are one change of its settings each, beside what was published for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row of an ablation.

    Attributes:
        name: what the row is, and the folder of its run.
        words: words of the command line that make it from the system; None: no run of ours can be this row.
        published: what a paper reports, with its corpus and how sure it is; "" where nothing was found.
    """

    name: str
    words: tuple[str, ...] | None = ()
    published: str = ""
