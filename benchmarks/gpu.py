"""What only a GPU can show, in at most 8 minutes on one card: each check is a row of the file, written as it ends.

python benchmarks/gpu.py --out docs/results/speed/gpu.json
python benchmarks/gpu.py --tiny --out /tmp/gpu.json      # the same code on whatever there is, with tiny models
python benchmarks/gpu.py --only superb_30000 --out gpu-30000.json    # the longest one, which is not among the others

A check that fails, runs out of its time or is left out for lack of it is a row that says so, and the next one runs; a
kill loses no row. Models have the true geometry and random weights, audio is noise of the true lengths: nothing is
downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from extraction import Sound, count_flops, matmul_flops_per_second

from undertone.common.console import Advance, Display

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # `deterministic=true` needs it before CUDA starts

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 480.0  # of all checks together
RATE = 16_000
IEMOCAP = (5531, 7.0 * 3600)  # clips, s of audio
EMOTIONS = ("angry", "happy", "neutral", "sad")


@dataclass(frozen=True)
class Place:
    """Where the checks work, and how large they are."""

    folder: Path
    device: str
    tiny: bool

    @property
    def base(self) -> str:
        """The architecture of most checks."""
        return "tiny-wav2vec2" if self.tiny else "wav2vec2-base"

    def upstream(self, architecture: str) -> str:
        """The folder of a model with random weights, written once."""
        from undertone.upstream.hf.random_weights import save_random

        folder = self.folder / architecture
        return str(folder if folder.is_dir() else save_random(architecture, folder))

    def corpus(self, clips: int, seconds: float) -> Path:
        """A table of noise in five sessions of two speakers, so many clips of so many s together; written once."""
        import numpy as np
        import soundfile

        folder = self.folder / f"noise-{clips}-{seconds:.0f}"
        if (folder / "table.csv").is_file():
            return folder / "table.csv"
        folder.mkdir()
        draw, generator = random.Random(0), np.random.default_rng(0)
        lengths = [draw.uniform(0.3, 1.7) for _ in range(clips)]
        lines, noise = ["file,speaker,session,emotion"], generator.uniform(-0.1, 0.1, 60 * RATE)
        for number, length in enumerate(lengths):
            samples = round(length * seconds / sum(lengths) * RATE)
            first = draw.randrange(len(noise) - samples)
            wave = noise[first : first + samples] * draw.uniform(0.3, 1)
            soundfile.write(folder / f"{number:05}.wav", wave, RATE)
            session = number % 5 + 1
            lines.append(f"{number:05}.wav,{session}{'MF'[number // 5 % 2]},{session},{draw.choice(EMOTIONS)}")
        (folder / "table.csv").write_text("\n".join(lines) + "\n")
        return folder / "table.csv"

    def clips(self, clips: int, seconds: float) -> list[Sound]:
        """The same as clips to extract."""
        import soundfile

        files = sorted(self.corpus(clips, seconds).parent.glob("*.wav"))
        return [Sound(str(file), soundfile.info(file).duration, file.stem) for file in files]

    def config(self, corpus: object, *words: str, system: str | None = None) -> Any:
        """A run's settings on the device, with a store of its own beside the corpus."""
        from undertone.recipes.systems import load_system
        from undertone.training.settings import make_config

        values = {"corpus": str(corpus), "device": self.device, "store": str(self.folder / "store")}
        return make_config(values, words, preset=load_system(system) if system else None)


class Stages(Display):
    """A display that keeps how long each of its bars was there."""

    def __init__(self, quiet: bool) -> None:
        super().__init__(quiet)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def bar(self, title: str) -> Iterator[Advance]:
        """A bar, timed."""
        began = time.perf_counter()
        try:
            with super().bar(title) as advance:
                yield advance
        finally:
            self.seconds[title] = self.seconds.get(title, 0.0) + round(time.perf_counter() - began, 2)


# ---- The checks: each returns the figures of its row, `passed` among them where there is something to pass.


def tests(place: Place) -> dict[str, Any]:
    """The tests marked `gpu`; where there is no GPU they are only collected."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if "@pytest.mark.gpu" in path.read_text()]
    words = ["-m", "gpu", "-n0", "-p", "no:cacheprovider", "-q", *map(str, files)]
    words += ["--collect-only"] if place.device == "cpu" else []
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True)
    return {"passed": done.returncode == 0, "files": len(files), "said": done.stdout.strip().splitlines()[-1:]}


def extraction(place: Place) -> dict[str, Any]:
    """Audio s a second in float32 and bf16, and the fraction of what matrix products of that precision reach here."""
    import torch

    from undertone.upstream import load_upstream
    from undertone.upstream.precision import frame_errors
    from undertone.upstream.store.extract import extract
    from undertone.upstream.store.store import Store

    found: dict[str, Any] = {}
    architectures = ("tiny-wav2vec2", "tiny-wavlm-layer") if place.tiny else ("wav2vec2-base", "wavlm-large")
    clips = place.clips(4, 4) if place.tiny else place.clips(600, 2700)
    device = torch.device(place.device)
    for architecture in architectures:
        upstream = load_upstream(place.upstream(architecture)).eval()
        work = count_flops(upstream.model, clips, RATE)
        upstream.to(device)
        for precision, dtype in (("no", "float32"), ("bf16", "bfloat16")):
            peak = matmul_flops_per_second(place.device, dtype) if not place.tiny else 1e12
            for kind in ("mean", "frames")[: 1 if precision == "no" else 2]:
                folder = place.folder / "extraction"
                extract(upstream, clips[:2], Store(folder / "warm", upstream, kind, precision=precision), device=device)
                store = Store(folder / "store", upstream, kind, precision=precision)
                done = extract(upstream, clips, store, device=device)
                if done.computed != len(clips):
                    raise ValueError(f"{done.computed} of {len(clips)} clips: {done.broken[:1]}")
                store = Store(folder / "again", upstream, kind, precision=precision)
                again = extract(upstream, clips, store, device=device)  # every shape of a batch has been there
                shutil.rmtree(folder)
                found[f"{architecture}, {dtype}, {kind}"] = {
                    "audio_s_per_s": done.audio_seconds / done.seconds,
                    "again_audio_s_per_s": again.audio_seconds / again.seconds,
                    "share_of_peak": work / done.seconds / peak,
                    "peak_tflops": peak / 1e12,
                }
        noise = 0.1 * torch.randn(4 * RATE, generator=torch.Generator().manual_seed(0))
        errors = frame_errors(upstream, noise, device, "bf16")  # (L, T)
        found[f"{architecture}, error of bf16"] = {"mean": float(errors.mean()), "largest": float(errors.max())}
    worst = max(row["largest"] for row in found.values() if "largest" in row)
    return {"passed": worst < 0.25, "figures": found}


def batching(place: Place) -> dict[str, Any]:
    """Hidden states in float32, alone, padded in a batch and on the CPU; and with TF32, which undertone turns off."""
    import torch

    from undertone.upstream import WaveBatch, load_upstream

    large = ("wav2vec2-base", "wavlm-base", "wavlm-large")
    generator = torch.Generator().manual_seed(0)
    waves = [0.1 * torch.randn(round(seconds * RATE), generator=generator) for seconds in (0.7, 1.9, 3.3, 6.1, 9.7)]
    found: dict[str, Any] = {}

    def states(upstream: Any, some: Sequence[Any], device: str) -> list[Any]:
        with torch.inference_mode():
            hidden = upstream.to(device)(WaveBatch.collate(some, RATE).to(device))
            return [one[:, :length].cpu() for one, length in zip(hidden.states, hidden.lengths.tolist(), strict=True)]

    def apart(one: list[Any], other: list[Any]) -> float:
        """The largest difference of a state."""
        return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))

    convolutions = torch.backends.cudnn.conv
    for architecture in ("tiny-wav2vec2", "tiny-wavlm-layer") if place.tiny else large:
        upstream = load_upstream(place.upstream(architecture)).eval()
        cpu = states(upstream, waves, "cpu")
        row: dict[str, float] = {"largest state": max(float(one.abs().max()) for one in cpu)}
        for name in ("float32", "tf32"):  # as undertone leaves it; as torch has it by default
            before = convolutions.fp32_precision
            convolutions.fp32_precision = "tf32" if name == "tf32" else before
            try:
                together = states(upstream, waves, place.device)
                alone = [states(upstream, [wave], place.device)[0] for wave in waves]
                times = []
                for _ in range(2 if place.tiny else 6):
                    began = time.perf_counter()
                    states(upstream, [waves[-1]] * (1 if place.tiny else 8), place.device)
                    times.append(time.perf_counter() - began)
            finally:
                convolutions.fp32_precision = before
            row[f"{name}, s"] = min(times)  # the copy of all states to the CPU included
            row[f"{name}, alone and in a batch"] = apart(alone, together)
            row[f"{name}, from the CPU's"] = apart(cpu, together)
        found[architecture] = row
    off = max(row["float32, alone and in a batch"] / max(1.0, row["largest state"]) for row in found.values())
    return {"passed": off < 1e-5, "figures": found}


def superb(place: Place, updates: int, most: float) -> dict[str, Any]:
    """`undertone crossval --system superb` on as much audio as IEMOCAP has, from files to results, in `most` s."""
    from undertone.experiments.crossval import crossval

    table = place.corpus(30, 30) if place.tiny else place.corpus(*IEMOCAP)
    updates = updates // 1000 if place.tiny else updates
    words = [f"upstream={place.upstream(place.base)}", "protocol=session", f"max_steps={updates}"]
    words += [f"eval_every={max(1, min(1000, updates // 5))}", f"store={place.folder}/{updates}"]
    words += ["sweep.lr=1e-3,1e-4"] if place.tiny else []
    began, stages = time.perf_counter(), Stages(quiet=True)
    try:
        results = crossval(place.config(table, *words, system="superb"), place.folder / f"superb-{updates}", stages)
    except Exception as error:
        raise RuntimeError(f"{error} after {stages.seconds}") from error
    seconds = time.perf_counter() - began
    found = {"clips": 30 if place.tiny else IEMOCAP[0], "updates": updates, "seconds_in_all": seconds}
    return {"passed": results is not None and (place.tiny or seconds < most), **found, "stages_s": stages.seconds}


def updates(place: Place) -> dict[str, Any]:
    """`undertone bench`: an update of each training, LoRA and fine-tuning in bf16 too, the largest batch by trying."""
    from undertone.experiments.bench import bench
    from undertone.experiments.bench_estimate import as_json

    found: dict[str, Any] = {}
    architectures = (place.base,) if place.tiny else ("wav2vec2-base", "wavlm-large")
    table = place.corpus(30, 30) if place.tiny else place.corpus(*IEMOCAP)
    for architecture in architectures:
        words = (f"upstream={place.upstream(architecture)}", "protocol=session", "max_epochs=2")
        words += ("mixed_precision=bf16",) if place.device == "cuda" else ()
        config = place.config(table, *words)
        found[architecture] = as_json(bench(config, Display(quiet=True), seconds=1.0 if place.tiny else 25.0))
    rows = [row for one in found.values() for row in one["trainings"]]
    return {"passed": len(rows) == 4 * len(architectures), "figures": found}


def out_of_memory(place: Place) -> dict[str, Any]:
    """A batch that a limited card does not hold: the trainer and the extraction halve it, to the same result."""
    import torch

    from undertone.experiments.open_run import open_run
    from undertone.training.accelerator import accelerator_of
    from undertone.training.trainer import Trainer
    from undertone.upstream.store.extract import extract
    from undertone.upstream.store.store import Store

    table = place.corpus(30, 30) if place.tiny else place.corpus(160, 1600)
    size = 16 if place.tiny else 96
    words = (f"upstream={place.upstream(place.base)}", "mode=finetune", "protocol=session", f"batch_size={size}")
    config = place.config(table, *words, "head.dropout=0")
    run = open_run(config, place.folder / "memory", Display(quiet=True))
    clips, weights, parts, stored = list(run.manifest)[:size], [], [], []
    for limited in (False, True):
        with _memory_limit(0.03 if limited and place.device == "cuda" else None):
            module = run.new_module("memory")
            folder = place.folder / f"memory-{limited}"
            trainer = Trainer(config, run.tasks, run.source, module, folder, accelerator_of(config))
            trainer.fit(clips, [], 1)
            weights.append(torch.cat([one.detach().float().cpu().flatten() for one in trainer.module.parameters()]))
            parts.append(trainer.micro_batches)
            del trainer, module
            store = Store(place.folder / f"memory-store-{limited}", run.upstream, "mean")
            done = extract(run.upstream, clips, store, device=place.device, batch_seconds=1e6)
            stored.append(torch.stack([store.get(str(clip.audio_hash)) for clip in clips]))
            assert done.computed == len({clip.audio_hash for clip in clips})
    # AdamW's first step has the sign of a gradient, which rounding decides where that is zero: hence a share.
    moved = float(((weights[0] - weights[1]).abs() > 1e-5).float().mean())
    apart = float((stored[0] - stored[1]).abs().max())
    halved = parts[1] > parts[0] or place.device == "cpu"
    figures = {"micro_batches": parts, "share_of_weights_off_by_1e-5": moved, "states_differ_by": apart}
    return {"passed": halved and moved < 0.01 and apart < 1e-3, **figures}


@contextmanager
def _memory_limit(fraction: float | None) -> Iterator[None]:
    """Let torch have this fraction of the card within it."""
    import torch

    if fraction is None:
        yield
        return
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(fraction)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def deterministic(place: Place) -> dict[str, Any]:
    """`deterministic=true` twice, with LoRA: the same bytes in every weight."""
    from safetensors.torch import load_file

    from undertone.experiments.crossval import train

    table = place.corpus(30, 30) if place.tiny else place.corpus(160, 1600)
    words = ("mode=lora", "protocol=session", "batch_size=8", "deterministic=true")
    words += (f"upstream={place.upstream(place.base)}", f"max_steps={2 if place.tiny else 20}")
    for name in ("one", "two"):
        train(place.config(table, *words), place.folder / f"same-{name}", display=Display(quiet=True))
    one, two = (
        {
            f"{path.relative_to(place.folder / f'same-{name}')}:{key}": value
            for path in (place.folder / f"same-{name}" / "model").rglob("*.safetensors")
            for key, value in load_file(path).items()
        }
        for name in ("one", "two")
    )
    different = [key for key in one if not one[key].equal(two[key])]
    return {"passed": bool(one) and one.keys() == two.keys() and not different, "tensors": len(one)}


def two_processes(place: Place) -> dict[str, Any]:
    """Two processes on one card and one `--out` share the folds; the results are those of one process."""
    table = place.corpus(30, 30) if place.tiny else place.corpus(160, 1600)
    words = ["crossval", str(table), "--upstream", place.upstream(place.base), "--device", place.device]
    words += ["--store", str(place.folder / "store"), "protocol=session", f"max_steps={2 if place.tiny else 20}"]
    command = [sys.executable, "-m", "undertone.cli", *words]
    pooled, began = [], time.perf_counter()
    for name, count in (("both", 2), ("alone", 1)):
        out = place.folder / name
        processes = [
            subprocess.Popen(
                [*command, "--out", str(out)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
            )
            for _ in range(count)
        ]
        said = [process.communicate()[1] for process in processes]
        if any(process.returncode for process in processes):
            raise ValueError(f"{name}: {' / '.join(text.strip().splitlines()[-1] for text in said if text.strip())}")
        pooled.append(json.loads((out / "results.json").read_text())["pooled"])
    both, alone = (one["emotion"]["uar"] for one in pooled)
    found = {"uar_of_two": both, "uar_of_one": alone, "equal": pooled[0] == pooled[1]}
    return {"passed": abs(both - alone) < 0.05, **found, "three_runs_s": time.perf_counter() - began}


CHECKS: dict[str, tuple[Callable[[Place], dict[str, Any]], float]] = {
    "tests": (tests, 60),
    "superb": (partial(superb, updates=5000, most=30), 100),
    "extraction": (extraction, 110),
    "batching": (batching, 40),
    "updates": (updates, 120),
    "deterministic": (deterministic, 40),
    "out_of_memory": (out_of_memory, 40),
    "two_processes": (two_processes, 100),
    "superb_30000": (partial(superb, updates=30_000, most=60), 220),
}
"""{name: the check, and the most s that it may take}."""


# ---- Running them.


class _TooLong(Exception):
    """A check has used up its time."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `_TooLong` in the block after so many seconds; a training has the timer of SIGALRM for itself."""

    def end(*_: object) -> None:
        raise _TooLong(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGUSR1, end)
    timer = threading.Timer(seconds, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


def run_checks(names: Sequence[str], place: Place, out: Path | None, seconds: float = SECONDS) -> dict[str, Any]:
    """Run the checks one after the other; the file holds the rows so far after each, and which one is running."""
    import torch

    from undertone.common.files import write_json
    from undertone.experiments.bench import machine
    from undertone.experiments.start_record import versions

    device = torch.device(place.device)
    found: dict[str, Any] = {"machine": machine(device), "versions": versions(), "tiny": place.tiny, "rows": []}
    end = time.monotonic() + seconds
    for name in names:
        check, most = CHECKS[name]
        left, row = min(most, end - time.monotonic()), {"check": name}
        if out is not None:
            write_json(out, {**found, "running": name})
        began = time.perf_counter()
        if left < 5:
            row["skipped"] = "no time was left"
        else:
            try:
                with _at_most(left), nullcontext() if place.device == "cpu" else torch.cuda.device(0):
                    row |= check(place)
            except Exception as error:  # of one check; the others still run
                frame = traceback.extract_tb(error.__traceback__)[-1]
                row |= {"passed": False, "error": f"{type(error).__name__}: {error}"[:500]}
                row["where"] = f"{Path(frame.filename).name}:{frame.lineno}"
        row["seconds"] = round(time.perf_counter() - began, 2)
        found["rows"].append(row)
        print(json.dumps(row)[:300], flush=True)
        if out is not None:
            write_json(out, found)
        if place.device == "cuda":
            torch.cuda.empty_cache()
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Run the checks; 1 if one has not passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny models and few updates, on a CPU if there is no GPU")
    parser.add_argument("--only", help=f"of {', '.join(CHECKS)}; separated by commas")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--folder", type=Path, help="where models and audio are made, 3 GB; none: the temporary folder")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(words)
    import torch

    names = arguments.only.split(",") if arguments.only else [name for name in CHECKS if name != "superb_30000"]
    if unknown := [name for name in names if name not in CHECKS]:
        parser.error(f"no check {unknown[0]!r}; there are {', '.join(CHECKS)}")
    if not torch.cuda.is_available() and not arguments.tiny:
        parser.error("torch sees no GPU here; --tiny tries the script on the CPU")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        found = run_checks(names, Place(Path(folder), device, arguments.tiny), arguments.out, arguments.seconds)
    return int(not all(row.get("passed", True) for row in found["rows"]))


if __name__ == "__main__":
    sys.exit(main())
