"""A system's own ablation: rows that are one change of its settings each, beside what was published for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertone.discovery import nearest

CLASSES = ("uar", "wa")
VALUES = ("ccc",)


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


def ablation_rows(system: str) -> tuple[Row, ...]:
    """The rows of a system's ablation.

    Raises:
        ValueError: an unknown system, or one without an ablation.
    """
    from undertone.recipes.systems import available_systems, system_module

    rows: tuple[Row, ...] = getattr(system_module(system), "ABLATION", ())
    if not rows:
        having = [name for name in available_systems() if hasattr(system_module(name), "ABLATION")]
        raise ValueError(f"System {system!r} has no ablation. Those that have one: {', '.join(having)}.")
    return rows


def run_ablation(
    system: str, corpus: str, words: Sequence[str], out: Path, names: Sequence[str] = ()
) -> list[tuple[Row, dict[str, Any] | None]]:
    """Cross-validate the rows that are asked for; what is finished is not repeated.

    Args:
        system: a preset, with variants: `li2019:small`.
        corpus: as in `undertone crossval`.
        words: `key=value` of any setting, for all rows; what makes a row wins over them.
        out: each row's run is OUT/NAME.
        names: of the rows to run; empty: all that a run can be.

    Returns:
        every row with its results; None where it was not run.

    Raises:
        ValueError: a system, row, corpus or setting that is not.
    """
    from undertone.files import read_json
    from undertone.recipes.systems import load_system
    from undertone.training.config import make_config
    from undertone.training.crossval import crossval

    rows = ablation_rows(system)
    runnable = {row.name: row.words for row in rows if row.words is not None}
    if unknown := [name for name in names if name not in runnable]:
        raise ValueError(f"System {system!r} has no row {unknown[0]!r} to run.{nearest(unknown[0], runnable)}")
    chosen = {name: own for name, own in runnable.items() if not names or name in names}
    preset = load_system(system)
    configs = {name: make_config({"corpus": corpus}, [*words, *own], preset=preset) for name, own in chosen.items()}
    for name, config in configs.items():
        crossval(config, out / name)
    finished = {row.name: out / row.name / "results.json" for row in rows}
    return [(row, read_json(finished[row.name]) if finished[row.name].is_file() else None) for row in rows]


def ablation_table(
    rows: Sequence[tuple[Row, dict[str, Any] | None]],
) -> tuple[list[str], list[str], list[list[str]]]:
    """Title lines, header and lines of text, one for each row and task; published and ours in columns of their own.

    Args:
        rows: what `run_ablation` returned; cells of ours are blank where a row was not run.
    """
    from undertone.training.results import METRICS, title_lines

    ran = [results for _, results in rows if results is not None]
    kinds = {task["kind"] for results in ran for task in results["tasks"]} or {"classification"}
    metrics = [*(CLASSES if kinds != {"regression"} else ()), *(VALUES if "regression" in kinds else ())]
    ours = ["Task", *(f"Ours: {METRICS[metric]}" for metric in metrics), "95 % interval", "Parameters", "Training"]
    lines = []
    for row, results in rows:
        cells = [[""] * len(ours)] if results is None else _cells(results, metrics)
        named = [(row.name, row.published), *[("", "")] * (len(cells) - 1)]
        lines += [[*name, *line] for name, line in zip(named, cells, strict=True)]
    titles = title_lines(ran[0])[1:] if ran else []
    titles.append("Published scores are those of the corpus and protocol named with them; ours are this run's.")
    return titles, ["Row", "Published", *ours], lines


def _cells(results: Mapping[str, Any], metrics: Sequence[str]) -> list[list[str]]:
    """Ours of one row, a line a task; the interval is that of the task's first metric."""
    from undertone.training.results import number

    lines = []
    for name, pooled in results["pooled"].items():
        own = [metric for metric in metrics if metric in pooled]
        interval = results["ci95"][name].get(own[0])
        scores = [number(metric, pooled[metric]) if metric in own else "" for metric in metrics]
        spread = "–" if interval is None else " – ".join(number(own[0], end) for end in interval)
        lines.append([name, *scores, spread, "", ""])
    cost = results["cost"]
    lines[0][-2:] = [f"{cost['parameters']:,}", f"{cost['training_seconds']:.0f} s"]
    return lines
