"""A table of a page, and the same as LaTeX and as CSV, to copy."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from undertone.inference.format import no_formula

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "→": r"$\rightarrow$",
    "↓": r"$\downarrow$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
} | {character: f"\\{character}" for character in "&%$#_{}"}
_NUMBER = re.compile(r"[+−-]?[\d,.]+")


@dataclass(frozen=True)
class Table:
    """A header and rows of text.

    Attributes:
        title: what it shows; the caption in LaTeX.
        header: names of the columns.
        rows: as many cells each.
        texts: how many of the first columns are text; the others are numbers, on the right.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1

    @property
    def latex(self) -> str:
        """A `table` in the style of the package booktabs."""
        columns = "l" * self.texts + "r" * (len(self.header) - self.texts)
        lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (self.header, *self.rows)]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_escaped(self.title)}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                lines[0],
                r"\midrule",
                *lines[1:],
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
            ]
        )

    @property
    def csv(self) -> str:
        """With commas; a text that a spreadsheet would take for a formula begins with '."""
        text = io.StringIO()
        rows = [[cell if _NUMBER.fullmatch(cell) else no_formula(cell) for cell in row] for row in self.rows]
        csv.writer(text, lineterminator="\n").writerows([[no_formula(name) for name in self.header], *rows])
        return text.getvalue()


def _escaped(text: str) -> str:
    """One line of LaTeX in which no part of the text is a command."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
