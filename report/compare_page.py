"""The page of a comparison of runs: a table, intervals on one axis, and each speaker's two values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from undertone.common.files import write_json
from undertone.report.tables import Table
from undertone.scoring.compare import comparison_table, detectable, run_names
from undertone.scoring.pages import write_page
from undertone.scoring.results import METRICS, number, signed


def write_comparison(comparison: Mapping[str, Any], out: Path) -> Path:
    """Write OUT/compare.json and OUT/compare.html, a self-contained page; returns the page's path."""
    titles, header, rows = comparison_table(comparison)
    write_json(out / "compare.json", comparison)
    return write_page(
        out / "compare.html",
        Path(__file__).with_name("compare.html.j2"),
        comparison=comparison,
        names=run_names(comparison),
        titles=titles,
        runs=Table("Runs", ["Run", "Upstream", "Head"], _runs(comparison), texts=3),
        differences=Table(titles[0], header, rows, texts=3),
        metrics=METRICS,
        pictures=[
            _picture(task, entries) | {"detectable": detectable(comparison, task)}
            for task, entries in comparison["tasks"].items()
        ],
    )


def _runs(comparison: Mapping[str, Any]) -> list[list[str]]:
    named = zip(run_names(comparison), comparison["runs"], strict=True)
    rows = [[name, run["upstream"], run["head"]] for name, run in named]
    rows[0][0] += " (baseline)"
    return rows


def _picture(task: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Positions in percent: of each run's interval on a common axis of differences, of speakers' dots on 0 to 1."""
    ends = [end for entry in entries for end in (*entry["ci95"], entry["difference"]) if end is not None]
    reach = max(map(abs, ends), default=0.0) or 1.0

    def place(difference: float | None) -> float | None:
        return None if difference is None else round(50 + 48 * difference / reach, 2)

    runs = [
        {
            "run": entry["run"],
            "difference": place(entry["difference"]),
            "low": place(entry["ci95"][0]),
            "high": place(entry["ci95"][1]),
            "text": signed(entry["metric"], entry["difference"]),
            "speakers": _dumbbells(entry),
        }
        for entry in entries
    ]
    return {"task": task, "metric": entries[0]["metric"], "reach": number(entries[0]["metric"], reach), "runs": runs}


def _dumbbells(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A speaker's two values, the largest gain first; speakers for whom one is not defined are left out."""
    defined = [(name, one, two) for name, one, two in entry["speakers"] if one is not None and two is not None]
    return [
        {
            "name": name,
            "baseline": round(100 * min(max(one, 0.0), 1.0), 2),
            "value": round(100 * min(max(two, 0.0), 1.0), 2),
            "better": two >= one,
            "text": signed(entry["metric"], two - one),
        }
        for name, one, two in sorted(defined, key=lambda row: row[1] - row[2])
    ]
