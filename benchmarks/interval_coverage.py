"""The coverage of Undertone's intervals and comparisons on simulated corpora whose true values are known.

    python benchmarks/interval_coverage.py                # 2,000 corpora of each kind; three minutes on one core
    python benchmarks/interval_coverage.py --corpora 200

The 95 % intervals of UAR, WA and macro-F1 should contain the value of the population of speakers in 95 % of the
corpora, and two systems that are equally good in the population should differ significantly (p < 0.05) in 5 %. For
comparison: percentile bootstraps over speakers and over utterances. Writes docs/results/coverage.json and
docs/images/coverage.png.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from undertone.common.files import write_json
from undertone.downstream.task import Task
from undertone.scoring.compare import decide
from undertone.scoring.intervals import interval, metrics_of
from undertone.scoring.metrics import uar_of

DOCS = Path(__file__).resolve().parents[1] / "docs"
NUM_SPEAKERS = (4, 6, 10, 24)
METRICS = ("uar", "wa", "macro_f1")
RESAMPLES = 1000  # of the bootstraps
BOOTSTRAPPED = 200  # corpora of a row for which they are made
BLOCK = 200  # corpora in memory at a time
POPULATION = 20_000  # speakers whose pooled scores are the truth


@dataclass(frozen=True)
class Kind:
    """A kind of corpus and of system.

    Attributes:
        name: of the row.
        per_class: expected utterances of a speaker, class by class.
        logit: of the mean recall.
        missing: probability that a speaker lacks a class.
        sizes: standard deviation of the logarithm of a speaker's number of utterances.
        one_class: a speaker has one class alone, as with the task gender.
    """

    name: str
    per_class: tuple[float, ...]
    logit: float
    missing: float = 0.0
    sizes: float = 0.0
    one_class: bool = False


ACTED = (8.0,) * 7
UNEVEN = (24.0, 15.0, 9.0, 6.0, 3.0, 3.0)
KINDS = (
    Kind("acted, 7 classes", ACTED, 0.3),
    Kind("acted, 7 classes, good system", ACTED, 2.0),
    Kind("imbalanced, classes missing", UNEVEN, 0.3, missing=0.25, sizes=0.5),
    Kind("imbalanced, classes missing, good system", UNEVEN, 2.0, missing=0.25, sizes=0.5),
    Kind("one class a speaker (gender)", (50.0, 50.0), 1.5, one_class=True),
)
SPEAKER, SPEAKER_CLASS = 0.45, 0.6  # standard deviations of the recalls' logits between speakers
SYSTEM, SYSTEM_CLASS = 0.25, 0.4  # and of what one system alone makes of a speaker


def simulate(rng: np.random.Generator, kind: Kind, num_speakers: int) -> np.ndarray:
    """(S, 2, C, C) confusion counts of two equally good systems on one corpus."""
    counts = _counts(rng, kind, num_speakers)  # (S, C)
    size = counts.shape[1]
    level = kind.logit + np.linspace(-0.8, 0.8, size) + rng.normal(0, SPEAKER, (num_speakers, 1))  # (S, C)
    level = (level + rng.normal(0, SPEAKER_CLASS, counts.shape))[:, None]  # (S, 1, C)
    level = level + rng.normal(0, SYSTEM, (num_speakers, 2, 1)) + rng.normal(0, SYSTEM_CLASS, (num_speakers, 2, size))
    both = np.repeat(counts[:, None], 2, axis=1)  # (S, 2, C)
    correct = rng.binomial(both, expit(level))  # (S, 2, C)
    confusion = np.zeros((*both.shape, size))
    for true in range(size):
        others = np.full(size, 1 / (size - 1))
        others[true] = 0
        confusion[:, :, true] = rng.multinomial(both[..., true] - correct[..., true], others)
        confusion[:, :, true, true] = correct[..., true]
    return confusion


def _counts(rng: np.random.Generator, kind: Kind, num_speakers: int) -> np.ndarray:
    """(S, C) utterances of each speaker and class; every class has two speakers."""
    expected = np.array(kind.per_class) * np.exp(rng.normal(0, kind.sizes, (num_speakers, 1)))  # (S, C)
    counts = np.maximum(rng.poisson(expected), 1)
    if kind.one_class:
        return counts * (np.arange(num_speakers)[:, None] % counts.shape[1] == np.arange(counts.shape[1]))
    kept = rng.random(counts.shape) >= kind.missing
    for label in range(counts.shape[1]):
        kept[rng.permutation(num_speakers)[:2], label] |= kept[:, label].sum() < 2
    return counts * kept


def truth(kind: Kind) -> dict[str, float]:
    """The scores of the population, and how much its speakers' UAR differs (`sd`)."""
    sums = simulate(np.random.default_rng(12345), kind, POPULATION)[:, 0]  # (S, C, C)
    metrics = metrics_of(Task("emotion", "classification", ("a", "b")))
    pooled = {name: float(metrics[name].of(sums.sum(axis=0))) for name in METRICS}
    return pooled | {"sd": float(np.nanstd(uar_of(sums)))}


def bootstraps(rng: np.random.Generator, confusion: np.ndarray) -> dict[str, tuple[float, float]]:
    """Percentile intervals of UAR that resample speakers, or utterances, of (S, C, C) counts."""
    num, size = confusion.shape[:2]
    drawn = rng.multinomial(num, np.full(num, 1 / num), RESAMPLES)  # (R, S)
    total = confusion.sum(axis=0).ravel()  # (C * C,)
    cells = rng.multinomial(int(total.sum()), total / total.sum(), RESAMPLES)  # (R, C * C)
    resampled = {"speakers": drawn @ confusion.reshape(num, -1), "utterances": cells}
    return {
        unit: tuple(np.nanquantile(uar_of(sums.reshape(-1, size, size)), [0.025, 0.975]))
        for unit, sums in resampled.items()
    }


def measure(kind: Kind, num_speakers: int, num_corpora: int, seed: int = 0) -> dict[str, Any]:
    """One row: fractions of simulated corpora of which the interval holds the truth, and equal systems differ.

    Also the mean half-width of the interval of UAR, and how often no interval was given.
    """
    true, metrics = truth(kind), metrics_of(Task("emotion", "classification", ("a", "b")))
    generators = [np.random.default_rng([seed, num_speakers, corpus]) for corpus in range(num_corpora)]
    found: dict[str, list[float]] = defaultdict(list)
    for start in range(0, num_corpora, BLOCK):
        block = generators[start : start + BLOCK]
        corpora = np.stack([simulate(rng, kind, num_speakers) for rng in block])  # (N, S, 2, C, C)
        for name in METRICS:
            low, high = interval(corpora[:, :, 0], metrics[name]).T  # (N,), (N,)
            found[name] += ((low <= true[name]) & (true[name] <= high)).tolist()
            found["half_width"] += ((high - low) / 2).tolist() if name == "uar" else []
        detectable, p, _ = decide(corpora, metrics["uar"])
        found["different"] += (p < 0.05).tolist()
        found["detectable"] += detectable.tolist()
        for rng, confusion in zip(block[: max(0, BOOTSTRAPPED - start)], corpora, strict=False):
            for unit, (low, high) in bootstraps(rng, confusion[:, 0]).items():
                found[f"bootstrap_{unit}"].append(low <= true["uar"] <= high)
    without = int(np.isnan(found["half_width"]).sum())
    means = {name: float(np.nanmean(values)) for name, values in found.items()}
    return {"kind": kind.name, "speakers": num_speakers, "corpora": num_corpora, "without": without} | {
        "true_uar": true["uar"],
        "speaker_sd": true["sd"],
        **means,
    }


def draw_figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Coverage over the number of speakers, and how often equal systems are called different."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    methods = {"uar": ("Undertone", "C0", "o"), "bootstrap_speakers": ("bootstrap over speakers", "C1", "s")}
    methods["bootstrap_utterances"] = ("bootstrap over utterances", "C3", "^")
    for place, (key, (label, color, marker)) in enumerate(methods.items()):
        for row in rows:
            at = NUM_SPEAKERS.index(row["speakers"]) + 0.2 * (place - 1)
            left.plot(at, 100 * row[key], marker, color=color, alpha=0.7, markeredgewidth=0)
        left.plot([], [], marker, color=color, label=label)
    for place, kind in enumerate(KINDS):
        own = [row for row in rows if row["kind"] == kind.name]
        at = [NUM_SPEAKERS.index(row["speakers"]) + 0.08 * (place - 2) for row in own]
        right.plot(at, [100 * row["different"] for row in own], "o", label=kind.name, markeredgewidth=0)
    left.axhspan(93, 97, color="0.9", zorder=0)
    left.axhline(95, color="0.5", linewidth=1, zorder=0)
    right.axhspan(4, 6, color="0.9", zorder=0)
    right.axhline(5, color="0.5", linewidth=1, zorder=0)
    left.set(ylabel="95 % intervals that hold the true UAR, %", xlabel="speakers", ylim=(0, 101))
    right.set(ylabel="equal systems called different, %", xlabel="speakers", ylim=(0, 10))
    for axes in (left, right):
        axes.set_xticks(range(len(NUM_SPEAKERS)), list(map(str, NUM_SPEAKERS)))
        axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Simulate, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=DOCS)
    arguments = parser.parse_args()
    rows = []
    for kind in KINDS:
        for num_speakers in NUM_SPEAKERS:
            rows.append(measure(kind, num_speakers, arguments.corpora))
            shown = ("uar", "wa", "macro_f1", "different", "bootstrap_speakers", "bootstrap_utterances")
            cells = "  ".join(f"{name} {100 * rows[-1][name]:.1f}" for name in shown)
            print(f"{kind.name:<42} {num_speakers:>2}  {cells}  none {rows[-1]['without']}", flush=True)
    write_json(arguments.out / "results" / "coverage.json", {"corpora": arguments.corpora, "rows": rows})
    draw_figure(rows, arguments.out / "images" / "coverage.png")


if __name__ == "__main__":
    main()
