"""Where an update of the SUPERB sweep goes: five trainings of a fold of IEMOCAP's size side by side, on one core.

python benchmarks/stacked_update.py --out docs/results/speed/stacked_update.json

The means have the geometry of wav2vec2-base and are random. One of the three products with the projection's matrix is
timed a second time alone, where the matrix stays in the processor's cache.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from extraction import machine

CLIPS, TRAIN, DEV, LAYERS, SIZE = 5531, 3300, 1100, 13, 768
REPEATS = 200  # of a product alone


def timed(owner: Any, name: str, what: str, seconds: Counter[str]) -> None:
    """Let a function of `owner` add its seconds to `seconds[what]`."""
    function: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        found = function(*args, **kwargs)
        seconds[what] += time.perf_counter() - began
        return found

    setattr(owner, name, call)


def measure(updates: int, folder: Path) -> dict[str, Any]:
    """Milliseconds an update of the stack, and of its parts."""
    import torch

    from undertone.corpora.manifest import Utterance
    from undertone.downstream.network import Downstream
    from undertone.downstream.task import Task
    from undertone.recipes.systems import load_system
    from undertone.training.config import trials
    from undertone.training.settings import make_config
    from undertone.training.stack.stacked_trainer import StackedTrainer, TrainingGroup
    from undertone.upstream.types import one_stream

    torch.set_num_threads(1)
    task = Task("emotion", "classification", ("angry", "happy", "neutral", "sad"))
    words = [f"max_steps={updates}", "eval_every=1000", "sweep.lr=1e-2,1e-3,1e-4,1e-5,1e-6"]
    configs = tuple(
        trial.config for trial in trials(make_config({"corpus": "x.csv"}, words, preset=load_system("superb")))
    )
    clips = [
        Utterance(str(row), f"{row}.wav", emotion=task.labels[row % 4], duration=1 + row % 7) for row in range(CLIPS)
    ]
    group = TrainingGroup("fold", clips[:TRAIN], clips[TRAIN : TRAIN + DEV], configs, updates, folder)
    modules = [[Downstream(one_stream(LAYERS, SIZE), (task,), "linear", {}) for _ in configs]]
    rows = {clip.id: row for row, clip in enumerate(clips)}
    trainer = StackedTrainer([group], (task,), torch.randn(LAYERS, CLIPS, SIZE), rows, modules)
    seconds: Counter[str] = Counter()
    products = {name: getattr(torch, name) for name in ("bmm", "baddbmm")}
    for name in products:
        timed(torch, name, "products", seconds)
    timed(torch, "index_select", "batch", seconds)
    timed(trainer.stack, "backward", "gradients", seconds)
    timed(trainer.optimizer, "step", "AdamW", seconds)
    timed(trainer, "_evaluate", "dev", seconds)
    began = time.perf_counter()
    trainer.fit()
    seconds["all"] = time.perf_counter() - began
    weights, outputs = torch.randn(len(configs), 256, SIZE), torch.randn(len(configs), 4, 256)
    began = time.perf_counter()
    for _ in range(REPEATS):
        products["bmm"](outputs, weights)
    in_cache = (time.perf_counter() - began) / REPEATS
    found = {what: round(1e3 * value / updates, 3) for what, value in seconds.items()}
    found = {"updates": updates, "ms_an_update": found, "ms_of_a_product_in_the_cache": round(1e3 * in_cache, 3)}
    return found | {"machine": machine(1, "cpu")}


def main() -> None:
    """Measure, print one line, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.updates, Path(folder))
    print(json.dumps(found))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
