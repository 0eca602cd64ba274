"""What unlabelled speech gains, by the number of labels: the same head with a ladder, a mean teacher, pseudo-labels.

    python benchmarks/unlabelled_curve.py emodb --root DIR --unlabelled LIBRISPEECH --part test

Of every training part a fraction of the labelled utterances is kept, drawn per class for each seed. All arms use the
same ones, make the same number of updates (pseudo-labels twice), and are selected on dev. Writes
docs/results/unlabelled-CORPUS.json and docs/images/unlabelled-CORPUS.png; --work holds what was trained, and the same
command resumes. `--part dev` scores dev, which selected the models: use it only to try this script.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from undertone.common.console import Display
from undertone.common.files import read_json, write_json
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Utterance
from undertone.downstream.task import Task
from undertone.experiments.open_run import open_run
from undertone.experiments.run import Run
from undertone.experiments.run_fold import fit
from undertone.scoring.intervals import METHOD, confidence_intervals
from undertone.scoring.metrics import uar
from undertone.scoring.predictions import Predictions
from undertone.training.accelerator import accelerator_of
from undertone.training.config import RunConfig, Trial
from undertone.training.prediction_loop import predict_and_embed
from undertone.training.seeding import draw
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


def keep(train: Sequence[Utterance], share: float, seed: int) -> list[Utterance]:
    """A fraction of each class' utterances, at least one, in the order of the training part."""
    classes: dict[str | None, list[Utterance]] = defaultdict(list)
    for item in train:
        classes[item.emotion].append(item)
    kept: set[str] = set()
    for members in classes.values():
        drawn = sorted(members, key=lambda item: draw(seed, "labels", item.id))
        kept |= {item.id for item in drawn[: max(1, round(share * len(members)))]}
    return [item for item in train if item.id in kept]


def predictions(run: Run, fold: Fold, arm: str, share: float, seed: int, part: str) -> Predictions:
    """Those of one training on a part of its fold."""
    config = run.config.model_copy(update={"seed": seed, "ladder": False} | ARMS[arm])
    run = replace(run, config=config, unlabelled=() if arm == "without" else run.unlabelled)
    train = keep(run.manifest.select(fold.train), share, seed)
    dev, scored = run.manifest.select(fold.dev), run.manifest.select(getattr(fold, part))
    accelerator = accelerator_of(config)
    with tempfile.TemporaryDirectory() as folder:
        module, _ = fit(run.training(fold, Trial("", {}, config)), accelerator, Path(folder), train, dev)
        return predict_and_embed(module, run.tasks, run.source, scored, accelerator, config.batch_size, fold.name)[0]


def point(found: Sequence[Predictions], task: Task) -> dict[str, Any]:
    """UAR of all folds together: the mean over the seeds, each seed's, and the interval over speakers."""
    scores = [float(uar(one.targets[task.name], one.scores[task.name].argmax(1), len(task.labels))) for one in found]
    intervals, _ = confidence_intervals(Predictions.concat(list(found)))
    return {
        "uar": math.fsum(scores) / len(scores),
        "seeds": scores,
        "ci95": intervals[task.name]["uar"],
        "method": METHOD,
    }


def measure(run: Run, part: str, share: float, num_seeds: int, work: Path) -> dict[str, Any]:
    """A row of the curve: all arms at one fraction of the labels; models in `work` are not trained again."""
    row: dict[str, Any] = {"share": share}
    row["labels"] = [len(keep(run.manifest.select(fold.train), share, 0)) for fold in run.folds]
    for arm in ARMS:
        found = []
        for seed in range(num_seeds):
            path = work / f"{share}-{arm}-{seed}.parquet"
            if not path.is_file():
                folds = [predictions(run, fold, arm, share, seed, part) for fold in run.folds]
                Predictions.concat(folds).save(path)
            found.append(Predictions.load(path))
        row[arm] = point(found, run.tasks[0])
        low, high = row[arm]["ci95"]
        print(f"{share:>5.0%} {arm:<13} UAR {row[arm]['uar']:.3f}  95 % {low:.3f} to {high:.3f}", flush=True)
    return row


def open_work(work: Path, told: dict[str, Any]) -> None:
    """Refuse a folder of trainings with other settings."""
    path = work / "settings.json"
    if path.is_file() and read_json(path) != told:
        raise SystemExit(f"{work} holds trainings with other settings. Choose another --work.")
    write_json(path, told)


def draw_figure(found: dict[str, Any], path: Path) -> None:
    """UAR by the fraction of labels, with intervals and every seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for offset, arm in enumerate(ARMS):
        label = "labels alone" if arm == "without" else arm.replace("_", "-")
        places = [row["share"] * 100 * (1 + 0.04 * offset) for row in found["rows"]]
        heights = [row[arm]["uar"] for row in found["rows"]]
        errors = [[row[arm]["uar"] - row[arm]["ci95"][0] for row in found["rows"]]]
        errors.append([row[arm]["ci95"][1] - row[arm]["uar"] for row in found["rows"]])
        line = axes.errorbar(places, heights, errors, marker="o", capsize=3, label=label)
        for place, row in zip(places, found["rows"], strict=True):
            color = line.lines[0].get_color()
            axes.scatter([place] * len(row[arm]["seeds"]), row[arm]["seeds"], s=8, color=color, alpha=0.5)
    axes.set(xscale="log", xlabel="labels used, %", ylabel=f"UAR, {found['corpus']}, {found['part']}")
    axes.set_xticks([row["share"] * 100 for row in found["rows"]], [f"{row['share']:.0%}" for row in found["rows"]])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=150)


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
        told["rows"] = [
            measure(run, arguments.part, share, arguments.seeds, arguments.work) for share in arguments.shares
        ]
    path = arguments.out / f"unlabelled-{told['corpus']}.json"
    write_json(path, told)
    draw_figure(told, arguments.images / f"{path.stem}.png")


if __name__ == "__main__":
    main()
