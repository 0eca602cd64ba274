"""What unlabelled speech gains, by the number of labels: the same head with a ladder, a mean teacher, pseudo-labels.

    python benchmarks/unlabelled_curve.py emodb --root DIR --unlabelled LIBRISPEECH --part test

Of every training part a fraction of the labelled utterances is kept, drawn per class for each seed. All arms use the
same ones, make the same number of updates (pseudo-labels twice), and are selected on dev. Writes
docs/results/unlabelled-CORPUS.json and docs/images/unlabelled-CORPUS.png; --work holds what was trained, and the same
command resumes. `--part dev` scores dev, which selected the models: use it only to try this script.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from label_curve import draw_figure, measure, open_work

from undertone.common.console import Display
from undertone.common.files import write_json
from undertone.experiments.open_run import open_run
from undertone.training.config import RunConfig
from undertone.training.settings import make_config

DOCS = Path(__file__).resolve().parents[1] / "docs"
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


def run_config(arguments: argparse.Namespace) -> RunConfig:
    given = SETTINGS | {name: getattr(arguments, name) for name in ("corpus", "root", "unlabelled")}
    return make_config(given, arguments.settings)


def main() -> None:
    """Train what --work lacks, write the curve and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--root", required=True)
    parser.add_argument("--unlabelled", required=True)
    parser.add_argument("--part", choices=("dev", "test"), required=True)
    parser.add_argument("--shares", type=lambda text: [float(part) for part in text.split(",")], default=[0.1, 0.25, 1])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, help="only so many; all by default")
    parser.add_argument("--work", type=Path, default=Path("runs/unlabelled-curve"))
    parser.add_argument("--out", type=Path, default=DOCS / "results")
    parser.add_argument("--images", type=Path, default=DOCS / "images")
    parser.add_argument("settings", nargs="*", help="key=value")
    arguments = parser.parse_intermixed_args()

    config = run_config(arguments)
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(config, Path(folder) / "run", Display())
        run = replace(run, folds=run.folds[: arguments.folds])
        told = {"corpus": run.corpus.name, "part": arguments.part, "unlabelled": len(run.unlabelled)}
        told |= {"num_folds": len(run.folds), "num_seeds": arguments.seeds}
        told["settings"] = {key: value for key, value in config.model_dump(mode="json").items() if key in SETTINGS}
        open_work(arguments.work, told)
        arms = {
            name: replace(
                run,
                config=config.model_copy(update={"ladder": False} | changes),
                unlabelled=() if name == "without" else run.unlabelled,
            )
            for name, changes in ARMS.items()
        }
        told["rows"] = [
            measure(arms, arguments.part, share, arguments.seeds, arguments.work) for share in arguments.shares
        ]
    path = arguments.out / f"unlabelled-{told['corpus']}.json"
    write_json(path, told)
    names = {name: "labels alone" if name == "without" else name.replace("_", "-") for name in ARMS}
    draw_figure(told, names, arguments.images / f"{path.stem}.png")


if __name__ == "__main__":
    main()
