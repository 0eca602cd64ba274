"""Updates whose loss or gradient is NaN or infinite: named, written down, and never taken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

FILE = "not_finite.jsonl"


class NotFiniteError(ValueError):
    """A training came to an update that is not finite, and was told to stop there."""


def note_not_finite(folder: Path, step: int, loss: float, norm: float, ids: Sequence[str]) -> None:
    """Add a line to `folder/not_finite.jsonl`: the update, its loss and gradient norm, and its utterances."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a", encoding="utf-8") as file:
        entry = {"step": step, "loss": str(loss), "gradient_norm": str(norm), "ids": list(ids)}
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def not_finite_sentence(folder: Path, step: int, loss: float, norm: float, count: int) -> str:
    """What happened, where the utterances are listed, and what to do."""
    return (
        f"Update {step} is not finite: loss {loss}, gradient norm {norm}. It was not taken; its {count} utterances are "
        f"in {folder / FILE}. Lower the learning rate, look at these files, or leave such updates out: not_finite=skip."
    )
