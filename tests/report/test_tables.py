"""Tables to copy: LaTeX that compiles as it stands, CSV that reads back and is no formula."""

from __future__ import annotations

import csv
import io

from undertone.report.tables import Table

TABLE = Table("50 % of a_b", ["Task & metric", "Value"], [["<x>", "71.2 ± 3.0"], ["=cmd()", "-0.35"], ["a\\b", "–"]])


def test_latex_escapes_all_that_it_would_take_for_a_command() -> None:
    lines = TABLE.latex.splitlines()
    assert r"\caption{50 \% of a\_b}" in lines and r"\begin{tabular}{lr}" in lines
    assert lines[lines.index(r"\toprule") + 1] == r"Task \& metric & Value \\"
    assert r"\textless{}x\textgreater{} & 71.2 $\pm$ 3.0 \\" in lines
    assert r"a\textbackslash{}b & -- \\" in lines


def test_csv_reads_back_and_holds_no_formula() -> None:
    rows = list(csv.reader(io.StringIO(TABLE.csv)))
    assert rows == [["Task & metric", "Value"], ["<x>", "71.2 ± 3.0"], ["'=cmd()", "-0.35"], ["a\\b", "–"]]
