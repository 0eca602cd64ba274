"""Every acoustic preset at paper size and small: parameters, processor seconds of 20 updates, real-time factor.

python benchmarks/systems.py CORPUS --root DIR --store FOLDER --out systems.json [--only crnn,li2019:small]

Updates are those of a training (batches from the store, forward, loss, backward, clipping, optimiser) with the preset's
batch size, on clips of the corpus in order, after one warm-up update. Nothing is scored. Rows that exist in --out are
kept, so that the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

STEPS = 20


def acoustic_presets() -> list[str]:
    """Presets that are trained step by step on an acoustic upstream, and their `small` variants."""
    from undertone.common.discovery import available
    from undertone.downstream.head import head_class
    from undertone.recipes.systems import available_systems, load_system, system_module
    from undertone.upstream.base import Upstream
    from undertone.upstream.load import ACOUSTIC

    front_ends, names = available(ACOUSTIC, Upstream), []
    for name in available_systems():
        settings = load_system(name)
        if settings.get("upstream") in front_ends and not head_class(settings["head"]).is_fitted:
            names += [name, *([f"{name}:small"] if "small" in getattr(system_module(name), "VARIANTS", {}) else [])]
    return names


def measure(system: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Parameters, seconds of `STEPS` updates, and real-time factor of one preset."""
    from undertone.common.console import Display
    from undertone.experiments.cost import model_cost
    from undertone.experiments.open_run import open_run
    from undertone.recipes.systems import load_system
    from undertone.training.accelerator import accelerator_of
    from undertone.training.config import trials
    from undertone.training.settings import make_config
    from undertone.training.trainer import Trainer

    values = {"corpus": arguments.corpus, "root": arguments.root, "store": arguments.store}
    preset = load_system(system)
    if "tasks" in preset and "emotion" not in preset["tasks"]:
        values["tasks"] = ("emotion",)  # values that not every corpus has
    config = make_config(values, preset=preset)
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(config, Path(folder) / "run", Display(quiet=True))
        training = run.training(run.folds[0], trials(config)[0])
        module = training.new_module()
        trainer = Trainer(config, run.tasks, training.source, module, Path(folder), accelerator_of(config))
        clips, size = list(run.manifest), config.batch_size
        trainer.objective = trainer._make_objective(clips)
        batches = [[clips[(step * size + place) % len(clips)] for place in range(size)] for step in range(STEPS)]
        trainer._update(batches[0], 0, STEPS)
        start = time.process_time()
        for step, batch in enumerate(batches):
            trainer._update(batch, step, STEPS)
        seconds = time.process_time() - start
        cost = model_cost(training.model(module, clips))
    return {
        "system": system,
        "parameters": cost["parameters"],
        "batch_size": size,
        "seconds_of_20_steps": round(seconds, 2),
        "real_time_factor": cost["real_time_factor"],
    }


def main() -> None:
    """Measure every preset that --out lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("--root")
    parser.add_argument("--store")
    parser.add_argument("--only", help="presets, with commas")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("systems.json"))
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    told, rows = {"corpus": arguments.corpus, "threads": arguments.threads}, []
    if arguments.out.is_file():
        before = json.loads(arguments.out.read_text())
        rows = before["rows"] if told.items() <= before.items() else []
    done = {row["system"] for row in rows}
    for system in arguments.only.split(",") if arguments.only else acoustic_presets():
        if system in done:
            continue
        rows.append(measure(system, arguments))
        print(json.dumps(rows[-1]), flush=True)
        arguments.out.write_text(json.dumps({**told, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
