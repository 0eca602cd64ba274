"""Training the attention head on stored frames, compared with extraction, and with recomputing the upstream.

python benchmarks/frames_training.py emodb=DIR ravdess=DIR --upstream FOLDER --store DIR --out frames_training.json

Two figures: the time of five folds of 20 epochs over the corpora's frames, relative to the duration of their audio
divided by the speed of extraction; and, paired on the same few clips, the time of an epoch from the store relative to
an epoch in which the upstream recomputes every batch. The second uses a sample, as every such epoch takes as long as an
extraction.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from probe import joined, speed

EPOCHS = 20


def epoch_seconds(run: Any, source: Any, clips: list[Any], folder: Path) -> float:
    """Seconds of one epoch over the clips."""
    from undertone.training.accelerator import accelerator_of
    from undertone.training.trainer import Trainer, total_steps

    accelerator = accelerator_of(run.config)
    trainer = Trainer(run.config, run.tasks, source, run.new_downstream("benchmark"), folder, accelerator)
    began = time.perf_counter()
    trainer.fit(clips, [], total_steps(run.config, len(clips)))
    return time.perf_counter() - began


def pairs(run: Any, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """(from the store, recomputing) seconds of an epoch over the same clips, in turn; the store is read once before."""
    from dataclasses import replace

    from undertone.training.sources import RecomputeSource

    clips = random.Random(0).sample(list(run.manifest), arguments.sample)
    run = replace(run, config=run.config.model_copy(update={"max_epochs": 1, "max_steps": None}))
    recompute, found = RecomputeSource(run.upstream), []
    for _ in range(arguments.pairs + 1):
        seconds = []
        for source in (run.source, recompute):
            with tempfile.TemporaryDirectory() as folder:
                seconds.append(epoch_seconds(run, source, clips, Path(folder)))
        found.append((seconds[0], seconds[1]))
    return found[1:]


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of the cross-validation, of the extraction and of the pairs' epochs, and their ratios."""
    import torch

    from undertone.common.console import Display
    from undertone.experiments.crossval import crossval
    from undertone.experiments.open_run import open_run
    from undertone.training.settings import make_config

    words = [f"max_epochs={arguments.epochs}", f"patience={arguments.epochs}", "protocol=session", "tasks=emotion"]
    values = {"corpus": str(joined(arguments.corpora, folder)), "upstream": arguments.upstream}
    config = make_config(values, [*words, f"store={arguments.store or folder / 'store'}"])
    run = open_run(config, folder / "run", Display())
    utterances = list(run.manifest)
    seconds = sum(item.duration for item in utterances)
    rates = [arguments.rate or speed(run.upstream, utterances, arguments.sample)]
    began = time.perf_counter()
    crossval(config, folder / "run", Display())
    trained = time.perf_counter() - began
    rates.append(arguments.rate or speed(run.upstream, utterances, arguments.sample))
    rate, epochs = sum(rates) / 2, pairs(run, arguments)
    return {
        "clips": len(utterances),
        "audio_s": seconds,
        "folds": len(run.folds),
        "epochs": arguments.epochs,
        "threads": torch.get_num_threads(),
        "audio_s_per_s": rate,
        "extraction_s": seconds / rate,
        "trainings_s": trained,
        "ratio": trained * rate / seconds,
        "epoch_clips": arguments.sample,
        "epoch_from_store_s": statistics.median(store for store, _ in epochs),
        "epoch_recomputing_s": statistics.median(other for _, other in epochs),
        "epoch_ratio": statistics.median(store / other for store, other in epochs),
    }


def main() -> None:
    """Measure, print two lines, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", help="NAME=DIR")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--rate", type=float, help="audio seconds per second of the extraction, instead of a sample")
    parser.add_argument("--sample", type=int, default=32, help="clips of the paired epochs and of the speed")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments, Path(folder))
    print(f"{found['folds']} folds x {found['epochs']} epochs {found['trainings_s']:.1f} s, extraction "
          f"{found['extraction_s']:.1f} s: ratio {found['ratio']:.3f}")  # fmt: skip
    print(f"an epoch over {found['epoch_clips']} clips {found['epoch_from_store_s']:.2f} s from the store, "
          f"{found['epoch_recomputing_s']:.2f} s recomputing: 1/{1 / found['epoch_ratio']:.0f}")  # fmt: skip
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
