"""What unlabelled speech gains, by the number of labels: the same head with a ladder, a mean teacher, pseudo-labels.

    python benchmarks/unlabelled_curve.py emodb --root DIR --unlabelled LIBRISPEECH --part test

Of every training part a fraction of the labelled utterances is kept, drawn per class for each seed. All arms use the
same ones, make the same number of updates (pseudo-labels twice), and are selected on dev. Writes
docs/results/unlabelled-CORPUS.json and docs/images/unlabelled-CORPUS.png; --work holds what was trained, and the same
command resumes. `--part dev` scores dev, which selected the models: use it only to try this script.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from label_curve import curve_parser, write_curve

from undertone.common.console import Display
from undertone.experiments.open_run import open_run
from undertone.training.settings import make_config

SETTINGS = {
    "upstream": "functionals",
    "head": "dense",
    "tasks": ("emotion",),
    "ladder": True,
    "class_weights": "balanced",
    "max_steps": 100,
    "eval_every": 20,
    "patience": 5,
}
ARMS: dict[str, dict[str, Any]] = {
    "without": {"unlabelled": None},
    "ladder": {"ladder": True},
    "mean_teacher": {"mean_teacher": 10.0},
    "pseudo_labels": {"pseudo_labels": 0.9},
}


def main() -> None:
    """Train what --work lacks, write the curve and draw it."""
    parser = curve_parser(__doc__, "runs/unlabelled-curve")
    parser.add_argument("--unlabelled", required=True)
    parser.add_argument("--folds", type=int, help="only so many; all by default")
    arguments = parser.parse_intermixed_args()

    given = SETTINGS | {name: getattr(arguments, name) for name in ("corpus", "root", "unlabelled")}
    config = make_config(given, arguments.settings)
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(config, Path(folder) / "run", Display())
        run = replace(run, folds=run.folds[: arguments.folds])
        told: dict[str, Any] = {"unlabelled": len(run.unlabelled), "num_folds": len(run.folds)}
        told["settings"] = {key: value for key, value in config.model_dump(mode="json").items() if key in SETTINGS}
        arms = {
            name: replace(
                run,
                config=config.model_copy(update={"ladder": False} | changes),
                unlabelled=() if name == "without" else run.unlabelled,
            )
            for name, changes in ARMS.items()
        }
        names = {name: "labels alone" if name == "without" else name.replace("_", "-") for name in ARMS}
        write_curve(arguments, arms, names, told, "unlabelled")


if __name__ == "__main__":
    main()
