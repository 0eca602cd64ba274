"""`undertone quickstart`: the whole path on a synthetic corpus, with no data and no network, in under a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from undertone.common.console import Display
from undertone.experiments.crossval import crossval
from undertone.inference.predict import load_model
from undertone.report.report import write_report
from undertone.training.config import RunConfig


def run(out: Path) -> tuple[dict[str, Any], Path, dict[str, Any]]:
    """Make the corpus, cross-validate, report, predict one file.

    Args:
        out: folder of the run; a finished one is shown again, a broken-off one is taken up.

    Returns:
        the results, the file that was predicted, and its prediction.
    """
    display = Display()
    display.say(
        "A synthetic voice speaks for 8 people in 4 moods; a model learns to tell them on speakers it never heard."
    )
    config = RunConfig(
        corpus="synthetic",
        root=str(out / "corpus"),
        store=str(out / "store"),
        protocol="groups",
        num_folds=4,
        max_epochs=15,
        batch_size=16,
        learning_rate=2e-3,
    )
    results = crossval(config, out, display)
    if results is None:
        raise ValueError(f"Another process works in {out}. Wait for it, or choose another --out.")
    display.say(f"report   {write_report(out)}")
    example = sorted((out / "corpus").rglob("*.wav"))[0]
    return results, example, load_model(out).predict([example])[0]
