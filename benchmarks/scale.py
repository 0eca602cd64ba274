"""Time, memory and disk against hours of audio: `prepare`, `extract`, `crossval` and `predict` as a user types them.

python benchmarks/scale.py --hours 0.3,1,3,10 --work W --out docs/results/speed/scale.json --plot docs/images/scale.png

Each command is a process of its own with one thread; its processor seconds, wall seconds, peak memory (that of shards
which are mapped counted in) and what it leaves on disk are kept as soon as it ends, so that a stopped measurement goes
on where it was. The audio is synthetic: clips of about 4 s
of 40 voices, each with noise of its own seed, so that no two are the same audio. `crossval` trains the linear head on
the means of `fbank` for 5 epochs in 5 folds. What starting takes is the same for every size: `an_hour` is the rise from
the smallest size on, and `last_over_first`, the rise of the last step over that of the steps before, is 1 where
nothing grows faster than the audio.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from extraction import machine
from own_process import peak_bytes

RATE, SPEAKERS, SECONDS = 16_000, 40, 4.0
EMOTIONS = ("angry", "happy", "neutral", "sad")
LEAST = 0.03  # hours, in which five folds have a speaker each
PEAK = "--peak"  # before the words of a process that is the command itself
FIGURES = {"cpu_s": "processor seconds", "peak_mb": "peak memory, MB", "disk_mb": "left on disk, MB"}


def write_audio(folder: Path, hours: float) -> None:
    """FOLDER/clips.csv and its clips: parts of a few hundred synthetic utterances, with noise of their own."""
    import soundfile

    from undertone.corpora.synthetic import Synthetic

    folder.mkdir(parents=True, exist_ok=True)
    corpus = Synthetic(num_speakers=SPEAKERS, per_emotion=3)
    pool: dict[tuple[str, str], list[np.ndarray]] = {}
    genders = {}
    for row in corpus.rows(folder.parent / "pool"):
        pool.setdefault((row["speaker"], row["emotion"]), []).append(soundfile.read(row["path"], dtype="float32")[0])
        genders[row["speaker"]] = row["gender"]
    speakers, size = sorted(genders), round(SECONDS * RATE)
    with (folder / "clips.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "speaker", "gender", "emotion"))
        for number in range(math.ceil(hours * 3600 / SECONDS)):
            rng = np.random.default_rng(number)
            speaker, emotion = speakers[number // 4 % SPEAKERS], EMOTIONS[number % 4]
            takes = np.concatenate([pool[speaker, emotion][take] for take in rng.permutation(3)])
            wave = np.resize(takes, size) + 1e-3 * rng.standard_normal(size, dtype=np.float32)
            name = f"part{number // 1000:04d}/{speaker}_{number:07d}.wav"
            (folder / name).parent.mkdir(exist_ok=True)
            soundfile.write(folder / name, wave, RATE, subtype="PCM_16")
            writer.writerow((name, speaker, genders[speaker], emotion))


def commands(work: Path) -> dict[str, tuple[list[str], Path]]:
    """{name: (words after `undertone`, what it leaves)}."""
    table, store, run = work / "audio" / "clips.csv", work / "store", work / "run"
    folds = ["protocol=groups", "num_folds=5"]
    return {
        "prepare": (["prepare", str(table), "--out", str(work / "manifest")], work / "manifest"),
        "extract": (["extract", str(table), "--upstream", "fbank", "--store", str(store)], store),
        "crossval": (
            ["crossval", str(table), "--upstream", "fbank", "--head", "linear", "--epochs", "5", *folds]
            + ["--store", str(store), "--out", str(run)],
            run,
        ),
        "predict": (["predict", str(run), str(table), "--out", str(work / "rows.csv")], work / "rows.csv"),
    }


def run_command(words: list[str], left: Path) -> dict[str, float]:
    """Run `undertone WORDS`: what it took."""
    began, environment = time.monotonic(), os.environ | {"OMP_NUM_THREADS": "1"}
    with tempfile.NamedTemporaryFile("r") as peak:
        process = subprocess.Popen(
            [sys.executable, __file__, PEAK, peak.name, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"undertone {' '.join(words)} failed:\n{said[-2000:]}")
        peak_mb = int(peak.read()) / 1e6
    files = [left] if left.is_file() else [path for path in left.rglob("*") if path.is_file()]
    return {
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "wall_s": round(time.monotonic() - began, 2),
        "peak_mb": round(peak_mb, 1),
        "disk_mb": round(sum(path.stat().st_size for path in files) / 1e6, 3),
    }


def be_command(peak: str, words: list[str]) -> None:
    """Be `undertone WORDS`, and write the most memory that it had, in bytes, into the file `peak`."""
    from undertone.cli import main

    sys.argv = ["undertone", *words]
    try:
        main()
    finally:
        Path(peak).write_text(str(peak_bytes()))


def measure(hours: list[float], work: Path, out: Path) -> dict[str, Any]:
    """Every command at every size; those that `out` holds are not run again."""
    results = json.loads(out.read_text()) if out.is_file() else {"sizes": {}}
    for size in hours:
        found, folder = results["sizes"].setdefault(f"{size:g}", {}), work / f"{size:g}h"
        if len(found) < len(commands(folder)) and not (folder / "written").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            write_audio(folder / "audio", size)
            (folder / "written").touch()
        for name, (words, left) in commands(folder).items():
            if name not in found:
                found[name] = run_command(words, left)
                print(f"{size:g} h  {name:9} {found[name]}", file=sys.stderr, flush=True)
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(results | {"machine": machine(os.cpu_count() or 1, "cpu")}, indent=2) + "\n")
    return results | {"growth": growth(results["sizes"])}


def growth(sizes: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """{command: {figure: `an_hour` and `last_over_first`}}, see the top."""
    hours = sorted(sizes, key=float)
    least, middle, most = (float(hours[place]) for place in (0, -2, -1))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in sizes[hours[0]]:
        for figure in FIGURES:
            small, before, large = (sizes[hours[place]][name][figure] for place in (0, -2, -1))
            rate = (large - small) / (most - least)
            rises = (before - small) / (middle - least) if middle > least else 0
            last = (large - before) / (most - middle)
            entry = {"an_hour": round(rate, 3), "last_over_first": round(last / rises, 2) if rises > 0 else math.nan}
            found.setdefault(name, {})[figure] = entry
    return found


def plot(sizes: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """A panel a figure: one line a command against hours of audio, both logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    hours = sorted(map(float, sizes))
    drawing, panels = pyplot.subplots(1, len(FIGURES), figsize=(11, 3.4), layout="constrained")
    for axes, (figure, title) in zip(panels, FIGURES.items(), strict=True):
        for name in next(iter(sizes.values())):
            axes.loglog(hours, [sizes[f"{size:g}"][name][figure] for size in hours], marker="o", label=name)
        axes.set(title=title, xlabel="hours of audio")
        axes.grid(alpha=0.3)
    panels[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=110)


def main() -> None:
    """Measure what is missing, write the file and the plot, print what an hour of audio adds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", default="0.3,1,3,10", help="sizes, three or more")
    parser.add_argument("--work", type=Path, required=True, help="folder for audio, store and runs; kept")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    if sys.argv[1:2] == [PEAK]:
        be_command(sys.argv[2], sys.argv[3:])
        return
    arguments = parser.parse_args()
    hours = sorted({float(size) for size in arguments.hours.split(",")})
    if len(hours) < 3 or hours[0] < LEAST:
        parser.error(f"--hours takes three sizes or more, of {LEAST} at least, got {arguments.hours}: say 0.3,1,10,100")
    results = measure(hours, arguments.work, arguments.out)
    arguments.out.write_text(json.dumps(results | {"machine": machine(os.cpu_count() or 1, "cpu")}, indent=2) + "\n")
    for name, figures in results["growth"].items():
        rises = ", ".join(f"{figures[key]['an_hour']:g} {title} an hour" for key, title in FIGURES.items())
        print(f"{name}: {rises}; seconds rise {figures['cpu_s']['last_over_first']:g} times as fast at the end")
    if arguments.plot:
        plot(results["sizes"], arguments.plot)


if __name__ == "__main__":
    main()
