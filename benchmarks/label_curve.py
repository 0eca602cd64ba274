"""A score by the number of labels: what the scripts of these curves share."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from undertone.common.files import read_json, write_json
from undertone.corpora.folds import Fold
from undertone.corpora.manifest import Utterance
from undertone.downstream.task import Task
from undertone.experiments.run import Run
from undertone.experiments.run_fold import fit
from undertone.scoring.intervals import METHOD, confidence_intervals
from undertone.scoring.metrics import uar
from undertone.scoring.predictions import Predictions
from undertone.training.accelerator import accelerator_of
from undertone.training.config import Trial
from undertone.training.prediction_loop import predict_and_embed
from undertone.training.seeding import draw

DOCS = Path(__file__).resolve().parents[1] / "docs"


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


def predictions(run: Run, fold: Fold, share: float, seed: int, part: str) -> Predictions:
    """Those of one training on a part of its fold."""
    run = replace(run, config=run.config.model_copy(update={"seed": seed}))
    train = keep(run.manifest.select(fold.train), share, seed)
    dev, scored = run.manifest.select(fold.dev), run.manifest.select(getattr(fold, part))
    accelerator = accelerator_of(run.config)
    with tempfile.TemporaryDirectory() as folder:
        module, _ = fit(run.training(fold, Trial("", {}, run.config)), accelerator, Path(folder), train, dev)
        size = run.config.batch_size
        found, _ = predict_and_embed(module, run.tasks, run.source, scored, accelerator, size, fold.name)
        return found


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


def measure(arms: Mapping[str, Run], part: str, share: float, num_seeds: int, work: Path) -> dict[str, Any]:
    """A row of the curve: all arms at one fraction of the labels; what has predictions in `work` is not run again."""
    row: dict[str, Any] = {"share": share}
    for arm, run in arms.items():
        row["labels"] = [len(keep(run.manifest.select(fold.train), share, 0)) for fold in run.folds]
        found = []
        for seed in range(num_seeds):
            path = work / f"{share}-{arm}-{seed}.parquet"
            if not path.is_file():
                folds = [predictions(run, fold, share, seed, part) for fold in run.folds]
                Predictions.concat(folds).save(path)
            found.append(Predictions.load(path))
        row[arm] = point(found, run.tasks[0])
        low, high = row[arm]["ci95"]
        print(f"{share:>5.0%} {arm:<13} UAR {row[arm]['uar']:.3f}  95 % {low:.3f} to {high:.3f}", flush=True)
    return row


def curve_parser(description: str | None, work: str) -> argparse.ArgumentParser:
    """The arguments that all curves take; `work` is the default of --work."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--root", required=True)
    parser.add_argument("--part", choices=("dev", "test"), required=True)
    parser.add_argument(
        "--shares", type=lambda text: [float(part) for part in text.split(",")], default=[0.1, 0.25, 1.0]
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path(work), help="what was trained; the same command resumes")
    parser.add_argument("--out", type=Path, default=DOCS / "results")
    parser.add_argument("--images", type=Path, default=DOCS / "images")
    parser.add_argument("settings", nargs="*", help="key=value")
    return parser


def write_curve(
    arguments: argparse.Namespace, arms: Mapping[str, Run], names: Mapping[str, str], told: dict[str, Any], stem: str
) -> None:
    """Train what --work lacks, write OUT/STEM-CORPUS.json and draw IMAGES/STEM-CORPUS.png.

    `told` says what was trained, beside part and seeds; a --work of other trainings is refused.
    """
    told = {"corpus": next(iter(arms.values())).corpus.name, "part": arguments.part, **told}
    told |= {"num_seeds": arguments.seeds}
    settings = arguments.work / "settings.json"
    if settings.is_file() and read_json(settings) != told:
        raise SystemExit(f"{arguments.work} holds trainings with other settings. Choose another --work.")
    write_json(settings, told)
    rows = [measure(arms, arguments.part, share, arguments.seeds, arguments.work) for share in arguments.shares]
    write_json(arguments.out / f"{stem}-{told['corpus']}.json", told | {"rows": rows})
    draw_figure(told | {"rows": rows}, names, arguments.images / f"{stem}-{told['corpus']}.png")


def draw_figure(found: dict[str, Any], names: Mapping[str, str], path: Path) -> None:
    """UAR by the fraction of labels, with intervals and every seed; `names` says what each arm is called."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for offset, (arm, label) in enumerate(names.items()):
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
