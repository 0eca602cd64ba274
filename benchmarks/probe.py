"""SUPERB's probe, five folds at five learning rates, compared with the extraction that precedes it.

python benchmarks/probe.py emodb=DIR ravdess=DIR --upstream FOLDER --store DIR --out probe.json
python benchmarks/probe.py --like-iemocap --rate 9 --upstream FOLDER --updates 30000 --out probe-iemocap.json

The probe's time is all that `undertone crossval` does once the means are stored, except for the model of all speakers
at its end, which SUPERB does not have: 25 trainings with their evaluations on dev, 25 on test, and all files. The
extraction's time is the duration of the corpora's audio divided by the speed of extraction, which is measured on a
sample before and after the trainings, or given. `--like-iemocap` simulates means of IEMOCAP's 5,531 clips, 7 h in five
sessions, so that no speech is needed. `stages` are the seconds of the whole command after its imports, model of all
speakers and results counted in.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from extraction import machine
from stacked_update import timed

CLIPS, HOURS, SESSIONS = 5531, 7.0, 5  # of IEMOCAP's four emotions
RATES = "1e-2,1e-3,1e-4,1e-5,1e-6"


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A CSV table of utterances."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def joined(corpora: list[str], folder: Path) -> Path:
    """One table of several corpora, their speakers dealt out to five folds."""
    from undertone.corpora import load_corpus

    rows = []
    for word in corpora:
        name, _, root = word.partition("=")
        for row in load_corpus(name).rows(Path(root)):
            speaker = f"{name}-{row['speaker']}"
            rows.append({"file": Path(row["path"]).resolve(), "speaker": speaker, "emotion": row["emotion"]})
    speakers = sorted({row["speaker"] for row in rows})
    for row in rows:
        row["session"] = f"{speakers.index(row['speaker']) % SESSIONS + 1}"
    return write_table(folder / "table.csv", rows)


def like_iemocap(folder: Path) -> Path:
    """A table of as many clips as IEMOCAP has, each a moment of noise of its own."""
    import numpy as np
    import soundfile

    generator, rows = np.random.default_rng(0), []
    for number in range(CLIPS):
        path = folder / f"{number:04}.wav"
        soundfile.write(path, generator.uniform(-0.1, 0.1, int(generator.integers(800, 1600))), 16000)
        session, voice = number % SESSIONS + 1, "MF"[number // SESSIONS % 2]
        emotion = ("angry", "happy", "neutral", "sad")[int(generator.integers(4))]
        rows.append({"file": path, "speaker": f"{session}{voice}", "session": session, "emotion": emotion})
    return write_table(folder / "table.csv", rows)


def fill(run_config: Any, folder: Path) -> None:
    """Put synthetic means with the upstream's geometry into the store."""
    import torch

    from undertone.corpora import load_corpus
    from undertone.corpora.prepare import prepare
    from undertone.upstream import load_upstream
    from undertone.upstream.store.store import Store

    upstream = load_upstream(run_config.upstream)
    size = (upstream.num_layers, 1, upstream.hidden_size)
    hashes = [item.audio_hash for item in prepare(load_corpus(run_config.corpus), None).manifest]
    Store(folder, upstream, "mean").add((key, torch.randn(size)) for key in hashes)


def speed(upstream: Any, utterances: list[Any], sample: int) -> float:
    """Audio seconds per second of the extraction, on a few clips of all lengths."""
    from undertone.upstream.store.extract import extract
    from undertone.upstream.store.store import Store

    clips = random.Random(0).sample(utterances, min(sample, len(utterances)))
    with tempfile.TemporaryDirectory() as folder:
        report = extract(upstream, clips, Store(Path(folder), upstream, "mean"))
    return report.audio_seconds / report.seconds


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of the trainings and of the extraction, and their ratio."""
    import torch

    from undertone.common.console import Display
    from undertone.experiments import crossval, stacked_folds
    from undertone.experiments.open_run import open_run
    from undertone.recipes.systems import load_system
    from undertone.training.settings import make_config

    table = like_iemocap(folder) if arguments.like_iemocap else joined(arguments.corpora, folder)
    store = arguments.store or folder / "store"
    words = [f"sweep.lr={RATES}", f"max_steps={arguments.updates}", "protocol=session", f"store={store}"]
    values = {"corpus": str(table), "upstream": arguments.upstream}
    config = make_config(values, words, preset=load_system("superb"))
    if arguments.like_iemocap:
        fill(config, store)
    run = open_run(config, folder / "run", Display())
    utterances = list(run.manifest)
    seconds = HOURS * 3600 if arguments.like_iemocap else sum(item.duration for item in utterances)
    rates = [arguments.rate or speed(run.upstream, utterances, arguments.sample)]
    within_folds = {
        "weights and histories of the trainings": (stacked_folds, "_write"),
        "choice, test and model of each fold": (stacked_folds, "_finish"),
    }
    parts = {
        "opening the run, whose files are known": (crossval, "open_run"),
        "trainings, with dev": (crossval, "train_folds"),
        "the model of all speakers": (crossval, "_refit"),
        "pooled scores and intervals": (crossval, "pool"),
        "predictions and results": (crossval, "write_results"),
    }
    stages: Counter[str] = Counter()
    for what, (module, function) in (parts | within_folds).items():
        timed(module, function, what, stages)
    began = time.time()
    crossval.crossval(config, folder / "run", Display())
    whole = time.time() - began
    trained = max(path.stat().st_mtime for path in (folder / "run").rglob("fold.json")) - began
    stages["trainings, with dev"] -= sum(stages[what] for what in within_folds)
    rates.append(arguments.rate or speed(run.upstream, utterances, arguments.sample))
    rate = sum(rates) / 2
    return {
        "clips": len(utterances),
        "audio_s": seconds,
        "runs": 5 * len(run.folds),
        "updates": arguments.updates,
        "audio_s_per_s": rate,
        "extraction_s": seconds / rate,
        "trainings_s": trained,
        "ratio": trained * rate / seconds,
        "whole_s": round(whole, 1),
        "stages": {what: round(value, 1) for what, value in stages.most_common()},
        "machine": machine(torch.get_num_threads(), "cpu"),
    }


def main() -> None:
    """Measure, print one line, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", help="NAME=DIR")
    parser.add_argument("--like-iemocap", action="store_true")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--updates", type=int, default=5000)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--rate", type=float, help="audio seconds per second of the extraction, instead of a sample")
    parser.add_argument("--sample", type=int, default=20, help="clips on which that speed is measured")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if bool(arguments.corpora) == arguments.like_iemocap or (arguments.like_iemocap and not arguments.rate):
        parser.error("give corpora as NAME=DIR, or --like-iemocap with the --rate that was measured on others")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments, Path(folder))
    print(f"{found['runs']} runs x {found['updates']} updates {found['trainings_s']:.1f} s, extraction of "
          f"{found['audio_s'] / 3600:.2f} h {found['extraction_s']:.1f} s at {found['audio_s_per_s']:.1f} audio "
          f"seconds per second: ratio {found['ratio']:.3f}")  # fmt: skip
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
