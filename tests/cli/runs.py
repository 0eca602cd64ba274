"""What the tests read of a run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

Train = Callable[..., Path]  # the fixture `trained`
LAST = "eval_every=100"  # one look at dev, after the last step: the weights that are kept are the last ones


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "model" / "model.safetensors")


def model_config(run: Path) -> dict[str, Any]:
    return json.loads((run / "model" / "config.json").read_text())


def fold(run: Path) -> dict[str, Any]:
    """What is kept of the only fold of `undertone train`."""
    return json.loads(next(run.glob("folds/*/fold.json")).read_text())


def history(run: Path) -> list[dict[str, Any]]:
    """The looks at dev of that fold."""
    return json.loads(next(run.glob("folds/*/history.json")).read_text())


def results(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text())


def distance(first: Path, second: Path, part: str = "") -> float:
    """The largest difference of a weight, of those whose name contains `part`."""
    own, others = weights(first), weights(second)
    names = [name for name in own if part in name]
    assert names and own.keys() == others.keys()
    return max(float((own[name] - others[name]).abs().max()) for name in names)


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    rows = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path
