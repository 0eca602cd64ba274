"""What the layer sum learns at several learning rates, on synthetic hidden states whose informative layers are known.

python benchmarks/layer_sum.py --heads linear --out docs/results/layer_sum-linear.json
python benchmarks/layer_sum.py --heads attention --seeds 1 --rates null 0.03 0.1 0.3 --out layer_sum-attention.json
python benchmarks/layer_sum.py --table docs/results/layer_sum-linear.json

Corpora of EmoDB's size: 430 training clips, 50 for dev, seven classes, 13 layers of 64 features; 550 test clips, as
synthetic clips cost nothing. All other settings are the defaults of `undertone crossval`: the head `linear` is trained
side by side, `attention` by the `Trainer`. Four corpora:

one: layer 9 carries the class, the others are noise.
three: layers 3, 7 and 11 carry it, each in different directions.
drift: neighbouring layers are similar (their noise has a correlation of 0.9, directions rotate slowly); layer 8 carries
    most of the class, the others less with their distance (a bell of width 2).
equal: every layer carries it equally, with independent noise, so that equal weights are best.

`null` is one learning rate for layer sum and head; `oracle` has the weights that generated the corpus.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undertone.corpora.manifest import Utterance
from undertone.downstream.network import Downstream
from undertone.downstream.task import Task
from undertone.training.accelerator import accelerator_of
from undertone.training.config import RunConfig
from undertone.training.seeding import seed_everything
from undertone.training.sources import StoreSource
from undertone.training.stack.stacked_trainer import StackedTrainer, TrainingGroup
from undertone.training.trainer import Trainer, total_steps
from undertone.upstream.types import HiddenStates, one_stream

LAYERS, SIZE, CLASSES = 13, 64, 7
TRAIN, DEV, TEST = 430, 50, 550
STRENGTH = 4.0  # of the class, where the noise of a feature is 1
RATES = ("null", "0.001", "0.01", "0.03", "0.1", "0.3", "oracle")
RIGHT = {"one": (9,), "three": (3, 7, 11), "drift": (6, 7, 8, 9, 10), "equal": tuple(range(LAYERS))}
TASK = Task("emotion", "classification", tuple(f"class{number}" for number in range(CLASSES)))
Clips = Sequence[Utterance]


class Synthetic:
    """Hidden states of known structure, as a source of the trainer.

    Args:
        corpus: `one`, `three`, `drift` or `equal`.
        seed: of the draw.
    """

    jitter = StoreSource.jitter

    def __init__(self, corpus: str, seed: int) -> None:
        generator = np.random.default_rng(seed)
        strength, directions, persistence = structure(corpus, generator)
        labels = generator.integers(CLASSES, size=TRAIN + DEV + TEST)
        self.states: dict[str, Tensor] = {}
        self.clips: list[Utterance] = []
        for number, label in enumerate(labels):
            frames = int(generator.integers(8, 24))
            noise = along_layers(generator, persistence, 1, SIZE) + along_layers(generator, persistence, frames, SIZE)
            states = strength[:, None, None] * directions[:, label, None] + noise  # (L, T, D)
            name = TASK.labels[label]
            self.clips.append(Utterance(f"{number:04}", "", duration=frames / 50, speaker="one", emotion=name))
            self.states[f"{number:04}"] = torch.tensor(states, dtype=torch.float32)
        self.train, self.dev, self.test = self.clips[:TRAIN], self.clips[TRAIN : TRAIN + DEV], self.clips[-TEST:]

    def __call__(self, utterances: Clips) -> HiddenStates:
        """(B, L, T, D), padded."""
        states = [self.states[item.id] for item in utterances]
        lengths = torch.tensor([one.shape[1] for one in states])
        batch = torch.zeros(len(states), LAYERS, int(lengths.max()), SIZE)
        for row, one in enumerate(states):
            batch[row, :, : one.shape[1]] = one
        return HiddenStates(batch, lengths)

    def means(self) -> Tensor:
        """(L, N, D)."""
        return torch.stack([self.states[item.id].mean(1) for item in self.clips], 1)


def structure(corpus: str, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """(L,) strengths, (L, C, D) directions of the classes, and the correlation of neighbouring layers' noise."""
    shape = CLASSES, SIZE
    layers = np.arange(LAYERS)
    if corpus == "drift":
        strength = STRENGTH * np.exp(-0.5 * ((layers - 8) / 2) ** 2)
        directions, persistence = along_layers(generator, 0.95, *shape), 0.9
    else:
        strength = np.where(np.isin(layers, RIGHT[corpus]), STRENGTH, 0.0)
        directions, persistence = generator.normal(size=(LAYERS, *shape)), 0.0
    if corpus == "equal":
        strength, directions = strength / LAYERS**0.5, np.repeat(directions[:1], LAYERS, 0)
    return strength, directions / SIZE**0.5, persistence


def along_layers(generator: np.random.Generator, persistence: float, *shape: int) -> np.ndarray:
    """(L, *shape) normal values of variance 1; those of neighbouring layers have this correlation."""
    found = [generator.normal(size=shape)]
    for _ in range(LAYERS - 1):
        found.append(persistence * found[-1] + (1 - persistence**2) ** 0.5 * generator.normal(size=shape))
    return np.stack(found)


def downstream(config: RunConfig, name: str, weights: Sequence[float] | None = None) -> Downstream:
    """An untrained one; with fixed weights where they are given."""
    seed_everything(config.seed, "init", name)
    module = Downstream(one_stream(LAYERS, SIZE), (TASK,), config.head, config.head_options)
    if weights is not None:
        module.layer_sum.logits.data = torch.tensor(weights).log()
        module.layer_sum.logits.requires_grad_(False)
    return module


def oracle(corpus: str) -> list[float]:
    """The weights of the layers that carry the class, in proportion to how much."""
    strength = structure(corpus, np.random.default_rng(0))[0] + 1e-6
    return [float(value) for value in strength / strength.sum()]


def measure(corpus: str, head: str, seed: int, rates: Sequence[str]) -> list[dict[str, Any]]:
    """A record for each rate, with default settings but for that."""
    source = Synthetic(corpus, seed)
    base = RunConfig(corpus="synthetic", head=head, tasks=("emotion",), seed=seed, device="cpu")
    total = total_steps(base, TRAIN)
    found = {}
    for rate in rates:
        number = None if rate in ("null", "oracle") else float(rate)
        config = base.model_copy(update={"layer_sum_learning_rate": number})
        found[rate] = config, downstream(config, corpus, oracle(corpus) if rate == "oracle" else None)
    with tempfile.TemporaryDirectory() as folder:
        together = [rate for rate in rates if head == "linear" and rate != "oracle"]
        if together:
            rows = {item.id: row for row, item in enumerate(source.clips)}
            configs, modules = zip(*(found[rate] for rate in together), strict=True)
            group = TrainingGroup(corpus, source.train, source.dev, configs, total, Path(folder))
            StackedTrainer([group], (TASK,), source.means(), rows, [modules]).fit()
        for rate, (config, module) in found.items():
            if rate not in together:
                trainer = Trainer(config, (TASK,), source, module, Path(folder) / rate, accelerator_of(config))
                trainer.fit(source.train, source.dev, total)
    return [record(corpus, head, seed, rate, module, source) for rate, (_, module) in found.items()]


@torch.no_grad()
def record(corpus: str, head: str, seed: int, rate: str, module: Downstream, source: Synthetic) -> dict[str, Any]:
    """Weights, their entropy in nats over that of equal ones, and the accuracy on test."""
    module.eval()
    weights = module.layer_sum.layer_weights()
    predicted = torch.cat(
        [module(source(source.test[start : start + 50])).logits["emotion"].argmax(1) for start in range(0, TEST, 50)]
    )
    truth = torch.tensor([TASK.labels.index(str(item.emotion)) for item in source.test])
    return {
        "corpus": corpus,
        "head": head,
        "rate": rate,
        "seed": seed,
        "right": round(float(weights[list(RIGHT[corpus])].sum()), 6),
        "entropy": round(float(torch.special.entr(weights).sum() / np.log(LAYERS)), 6),
        "accuracy": round(float((predicted == truth).float().mean()), 6),
        "weights": [round(weight, 6) for weight in weights.tolist()],
    }


def table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: means over seeds; of accuracies the standard deviation too."""
    lines = [
        "| corpus | head | rate of the layer sum | weight of the right layers | entropy / uniform | test accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for corpus, head, rate in dict.fromkeys((one["corpus"], one["head"], one["rate"]) for one in records):
        own = [one for one in records if (one["corpus"], one["head"], one["rate"]) == (corpus, head, rate)]
        right, entropy, accuracy = (
            statistics.fmean(one[key] for one in own) for key in ("right", "entropy", "accuracy")
        )
        deviation = statistics.stdev(one["accuracy"] for one in own) if len(own) > 1 else 0.0
        name = {"null": "one group with the head"}.get(rate, rate)
        shown = f"{100 * accuracy:.1f} ± {100 * deviation:.1f}" if len(own) > 1 else f"{100 * accuracy:.1f}"
        lines.append(f"| {corpus} | {head} | {name} | {right:.3f} | {entropy:.2f} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", nargs="+", default=list(RIGHT), choices=list(RIGHT))
    parser.add_argument("--heads", nargs="+", default=["linear", "attention"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", nargs="+", default=RATES)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, help="print the table of a file that was written before")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())))
        return
    records = [
        found
        for corpus in arguments.corpora
        for head in arguments.heads
        for seed in range(arguments.seeds)
        for found in measure(corpus, head, seed, arguments.rates)
    ]
    print(table(records))
    if arguments.out:
        arguments.out.write_text(json.dumps(records) + "\n")


if __name__ == "__main__":
    main()
