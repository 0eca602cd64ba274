"""What bf16 and int8 change on a CPU: frames of every layer, clips in a padded batch, the UAR of a linear probe on dev.

python benchmarks/random_upstream.py wav2vec2-base models/random-wav2vec2-base
python benchmarks/precisions.py emodb=DIR ravdess=DIR --upstream tiny --upstream models/random-wav2vec2-base \
    --store store --out docs/results/speed/precisions.json --plot docs/images/precisions.png

Frames: relative errors against float32, of clips of each corpus, evenly over their lengths; and of the same clips in
batches of all lengths against alone, in one precision. Probe: the linear head on the first upstream, 300 updates in
float32 on the states of one precision. The dev parts of all folds are scored together and no test part is read. Dev
selects nothing: a step that it chose would move with the last digit, and be the best one for the states it was chosen
on. `trained` has the states of one precision in training and on dev, `predicting` those of float32 in training. The
difference from float32 is taken within a seed. It takes the precisions that this processor computes natively.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from extraction import machine
from speed_tables import named
from torch import Tensor

from undertone.common.console import Display
from undertone.common.files import write_json
from undertone.corpora.manifest import Utterance
from undertone.downstream.network import Downstream
from undertone.experiments.bench_extraction import name_of, precisions, spread
from undertone.experiments.open_run import open_run
from undertone.experiments.run import Run
from undertone.scoring.metrics import uar
from undertone.training.config import Trial
from undertone.training.settings import make_config
from undertone.training.stack.stacked_trainer import StackedTrainer, TrainingGroup
from undertone.training.targets import targets
from undertone.upstream import Upstream, WaveBatch, load_upstream
from undertone.upstream.base import read_clip
from undertone.upstream.precision import in_precision, relative_errors
from undertone.upstream.types import HiddenStates

CPU = torch.device("cpu")
UPDATES = 300
PADDED = 4  # clips in a batch


# ---- Frames.


def states(upstream: Upstream, batches: Sequence[Sequence[Tensor]], precision: str) -> list[Tensor]:
    """(L, T, D) of every wave, computed in these batches and this precision."""
    found = []
    with torch.inference_mode(), in_precision(upstream, CPU, precision):
        for batch in batches:
            hidden = upstream(WaveBatch.collate(batch, upstream.sample_rate))
            lengths = hidden.lengths.tolist()
            found += [one[:, :length].float() for one, length in zip(hidden.states, lengths, strict=True)]
    return found


def frame_errors(upstream: Upstream, clips: Sequence[Utterance]) -> dict[str, Any]:
    """{precision: errors against float32, and in a padded batch against alone}; see `by_layer`."""
    waves = [read_clip(upstream, clip.path, clip.start, clip.end) for clip in clips]
    num_batches = -(-len(waves) // PADDED)
    batches = [waves[first::num_batches] for first in range(num_batches)]
    single = [[wave] for batch in batches for wave in batch]
    exact, found = states(upstream, single, "no"), {}
    for precision in precisions(CPU, upstream):
        alone = states(upstream, single, precision)
        padded = states(upstream, batches, precision)
        name = name_of(precision)
        found[name] = {"against_float32": by_layer(alone, exact), "padded_against_alone": by_layer(padded, alone)}
        print(f"{Path(upstream.name).name} {name} {found[name]}", flush=True)
    return found


def by_layer(some: Sequence[Tensor], exact: Sequence[Tensor]) -> dict[str, list[float]]:
    """Median and worst relative error over all frames, a value a layer."""
    errors = torch.cat([relative_errors(one, other) for one, other in zip(some, exact, strict=True)], 1)  # (L, T)
    columns = {"median": errors.median(1).values, "worst": errors.amax(1)}
    return {name: [float(f"{value:.3g}") for value in column.tolist()] for name, column in columns.items()}


# ---- The probe.


def probe(runs: dict[str, Run], num_seeds: int) -> dict[str, Any]:
    """UAR of `num_seeds` seeds against float32, {precision: see `compare`} of `trained` and `predicting`."""
    manifest = list(runs["float32"].manifest)
    means = {name: run.source.means(manifest) for name, run in runs.items()}  # type: ignore[attr-defined]
    trained: dict[str, list[float]] = {name: [] for name in runs}
    predicting: dict[str, list[float]] = {name: [] for name in runs if name != "float32"}
    for seed in range(num_seeds):
        heads = {name: train(run, means[name], seed) for name, run in runs.items()}
        for name, run in runs.items():
            trained[name].append(score(run, heads[name], means[name]))
        for name in predicting:
            predicting[name].append(score(runs[name], heads["float32"], means[name]))
    found = {"clips": len(manifest), "folds": len(runs["float32"].folds), "seeds": num_seeds}
    return found | {
        way: {name: compare(own, trained["float32"]) for name, own in scores.items()}
        for way, scores in (("trained", trained), ("predicting", predicting))
    }


def train(run: Run, means: Tensor, seed: int) -> list[Downstream]:
    """The head of every fold after the last update."""
    config = run.config.model_copy(update={"seed": seed})
    trainings = [run.training(fold, Trial("", {}, config)) for fold in run.folds]
    modules = [training.new_downstream() for training in trainings]
    groups = [
        TrainingGroup(one.fold.name, one.train, (), (config,), UPDATES, run.folder.path / one.fold.name)
        for one in trainings
    ]
    rows = {item.id: row for row, item in enumerate(run.manifest)}
    StackedTrainer(groups, run.tasks, means, rows, [[module] for module in modules]).fit()
    return modules


@torch.no_grad()
def score(run: Run, modules: Sequence[Downstream], means: Tensor) -> float:
    """UAR in percent over the dev parts of all folds together."""
    rows = {item.id: row for row, item in enumerate(run.manifest)}
    (task,), truth, predicted = run.tasks, [], []
    for fold, module in zip(run.folds, modules, strict=True):
        dev = run.manifest.select(fold.dev)
        own = means[:, [rows[item.id] for item in dev]].transpose(0, 1)[:, :, None]  # (B, L, 1, D)
        logits = module.eval()(HiddenStates(own, torch.ones(len(dev), dtype=torch.int64))).logits[task.name]
        truth += targets(task, dev).tolist()
        predicted += logits.argmax(1).tolist()
    return 100 * uar(truth, predicted, len(task.labels))


def compare(scores: Sequence[float], exact: Sequence[float]) -> dict[str, Any]:
    """UAR of each seed; mean, standard deviation and largest of its differences from float32, in points."""
    points = [one - other for one, other in zip(scores, exact, strict=True)]
    figures = {
        "mean_uar": statistics.fmean(scores),
        "mean_points": statistics.fmean(points),
        "std_points": statistics.stdev(points),
        "largest_points": max(map(abs, points)),
    }
    return {name: round(value, 3) for name, value in figures.items()} | {"uar": [round(value, 2) for value in scores]}


# ---- Both.


def open_runs(corpus: str, root: str | None, upstream: str, store: Path, folder: Path) -> dict[str, Run]:
    """{precision: a run of the linear head on a corpus, its means in the store}."""
    given = {"corpus": corpus, "root": root, "upstream": upstream, "store": str(store), "device": "cpu"}
    given |= {"head": "linear", "tasks": ["emotion"], "max_steps": UPDATES}
    return {
        name_of(precision): open_run(
            make_config(given | {"mixed_precision": precision}, []), folder / name_of(precision), Display()
        )
        for precision in precisions(CPU, load_upstream(upstream))
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Probes of every corpus, then the frames of its clips in every upstream."""
    found: dict[str, Any] = {"clips_of_a_corpus": arguments.clips, "in_a_batch": PADDED, "updates": UPDATES}
    found |= {"probed": Path(arguments.upstream[0]).name, "probes": {}, "upstreams": {}}
    clips = []
    with tempfile.TemporaryDirectory() as folder:
        for number, word in enumerate(arguments.corpora):
            corpus, _, root = word.partition("=")
            place = Path(folder) / str(number)
            runs = open_runs(corpus, root or None, arguments.upstream[0], arguments.store, place)
            name = runs["float32"].corpus.name
            found["probes"][name] = probe(runs, arguments.seeds)
            print(f"{name} {found['probes'][name]}", flush=True)
            clips += spread(list(runs["float32"].manifest), arguments.clips)
    for one in arguments.upstream:
        found["upstreams"][Path(one).name] = frame_errors(load_upstream(one).eval(), clips)
    return found | {"machine": machine(torch.get_num_threads(), "cpu")}


def plot(upstreams: dict[str, Any], path: Path) -> None:
    """A panel an upstream: the error of each layer, a colour a precision, medians with the worst frame above."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(upstreams), figsize=(9, 3.4), layout="constrained", sharey=True)
    for axes, (name, found) in zip([panels] if len(upstreams) == 1 else panels, upstreams.items(), strict=True):
        for number, (precision, errors) in enumerate((key, one) for key, one in found.items() if key != "float32"):
            median, worst = ([100 * value for value in errors["against_float32"][key]] for key in ("median", "worst"))
            axes.plot(median, marker="o", markersize=4, color=f"C{number}", label=f"{precision}, median frame")
            axes.plot(worst, linestyle="--", color=f"C{number}", label=f"{precision}, worst frame")
        axes.set(title=named(name), xlabel="layer (0: input of the first block)")
        axes.grid(alpha=0.3)
    figure.axes[0].set(ylabel="error of a frame against float32, %", ylim=(0, None))
    figure.axes[0].legend(loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, write the file and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", help="NAME=DIR")
    parser.add_argument("--upstream", action="append", required=True, help="repeat it; the first one is probed")
    parser.add_argument("--store", type=Path, required=True, help="keeps the means that the probe learns from")
    parser.add_argument("--clips", type=int, default=20, help="of each corpus, whose frames are compared")
    parser.add_argument("--seeds", type=int, default=50, help="of the probe, two or more")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path, required=True)
    arguments = parser.parse_args(words)
    found = measure(arguments)
    write_json(arguments.out, found)
    plot(found["upstreams"], arguments.plot)


if __name__ == "__main__":
    main()
