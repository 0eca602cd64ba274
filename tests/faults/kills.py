"""Kill a job at moments uniform over its wall time, resume it, and compare with one that was left alone.

python tests/faults/kills.py --moments 30     # the long form; a test runs a short one

Each job is a process of its own. Writes are slowed: while a file is written it stands half-finished beside its place
for a while, as on a slow disk, and a log counts when. So a known share of the kills falls inside a write.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

SLOW_WRITES = """
import os, sys, time
from contextlib import contextmanager
from undertone import files

plain, log, pause = files.atomic_path, os.environ["WRITES"], float(os.environ["PAUSE"])

def say(word):
    with open(log, "a") as file:
        file.write(word + "\\n")

@contextmanager
def slow(target):
    with plain(target) as draft:
        yield draft
        written = [path for path in [draft, *draft.rglob("*")] if path.is_file()] if draft.is_dir() else [draft]
        largest = max(written, key=lambda path: path.stat().st_size)
        if largest.suffix == ".safetensors":
            content = largest.read_bytes()
            largest.write_bytes(content[: len(content) // 2])
            say("in")
            time.sleep(pause)
            largest.write_bytes(content)
            say("out")

files.atomic_path = slow
from undertone.upstream import store
store.SHARD_BYTES = 2**17  # several shards of a small corpus
from undertone.cli import main
main()
"""
SETTINGS = ("head.hidden_size=8", "batch_size=8", "device=cpu", "patience=100")
LONG = ("max_steps=30", "eval_every=5")


@dataclass(frozen=True)
class Job:
    """What is killed.

    Attributes:
        words: corpus, folder -> the command.
        outcome: folder -> what must be the same, file by file.
        done: folder -> files that, once there, must never be made again.
    """

    words: Callable[[Path, Path], list[str]]
    outcome: Callable[[Path], dict[str, bytes]]
    done: Callable[[Path], list[Path]]


def whole_files(folder: Path, pattern: str) -> list[Path]:
    """Files by name, without the hidden drafts that a killed process leaves beside them."""
    return [path for path in sorted(folder.rglob(pattern)) if not any(part.endswith(".tmp") for part in path.parts)]


def run_outcome(folder: Path) -> dict[str, bytes]:
    """Weights and predictions of a run, and its scores."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in whole_files(folder, "model.safetensors")}
    results = json.loads((folder / "results.json").read_text())
    scores = {key: results[key] for key in ("mean", "std", "pooled", "ci95", "confusion", "per_gender")}
    predictions = (folder / "predictions.parquet").read_bytes()
    return found | {"scores": json.dumps(scores).encode(), "predictions.parquet": predictions}


def store_outcome(folder: Path) -> dict[str, bytes]:
    """Every stored entry by its key, whatever shard it is in."""
    entries: dict[str, bytes] = {}
    for shard in whole_files(folder, "*.safetensors"):
        with safe_open(shard, framework="np") as tensors:
            entries |= {name: tensors.get_tensor(name).tobytes() for name in tensors.keys()}  # noqa: SIM118
    return entries


def _run(verb: str) -> Callable[[Path, Path], list[str]]:
    return lambda corpus, folder: [verb, str(corpus), "--out", str(folder), f"store={folder}-store", *SETTINGS, *LONG]


JOBS = {
    "extraction": Job(
        lambda corpus, folder: ["extract", str(corpus), "--upstream", "fbank", "--store", str(folder)],
        store_outcome,
        lambda folder: whole_files(folder, "*.safetensors"),
    ),
    "training": Job(_run("train"), run_outcome, lambda folder: list(folder.glob("folds/*/fold.json"))),
    "cross-validation": Job(_run("crossval"), run_outcome, lambda folder: list(folder.glob("folds/*/fold.json"))),
}


@dataclass(frozen=True)
class Killed:
    """How a job ended that was killed and resumed: seconds into it, whether inside a write, and what was wrong."""

    after: float
    inside_write: bool
    wrong: list[str]


def begin(words: Sequence[str], log: Path, pause: float) -> subprocess.Popen[str]:
    """The command as a process with slowed writes."""
    environment = os.environ | {"WRITES": str(log), "PAUSE": str(pause), "OMP_NUM_THREADS": "1"}
    environment |= {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", SLOW_WRITES, *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a process that must end well."""
    _, errors = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"The job failed with {process.returncode}:\n{errors}")


def kill_and_resume(
    job: Job, corpus: Path, folder: Path, after: float, whole: dict[str, bytes], pause: float
) -> Killed:
    """Start the job in a new folder, kill it after so many seconds (earlier if it is done by then), resume, compare."""
    log = folder.with_suffix(".log")
    log.touch()
    process = begin(job.words(corpus, folder), log, pause)
    time.sleep(after)
    if process.poll() is not None:  # the machine had less to do than when the wall time was taken
        place = folder.with_name(f"{folder.name}-again")
        return kill_and_resume(job, corpus, place, 0.8 * after, whole, pause)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    lines = log.read_text().split()
    inside = bool(lines) and lines[-1] == "in"
    kept = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in job.done(folder)}
    finish(begin(job.words(corpus, folder), log, 0.0))
    wrong = [f"{path} was made again" for path in kept if not path.exists() or _identity(path) != kept[path]]
    found = job.outcome(folder)
    wrong += [f"{name} differs" for name in sorted(whole.keys() | found.keys()) if whole.get(name) != found.get(name)]
    return Killed(after, inside, wrong)


def _identity(path: Path) -> tuple[int, int]:
    return path.stat().st_mtime_ns, path.stat().st_ino


def make_corpus(place: Path) -> Path:
    """A prepared manifest of 64 made-up utterances of four speakers."""
    words = ["prepare", "synthetic", "--root", str(place / "audio"), "--out", str(place / "manifest")]
    words += ["corpus.num_speakers=4", "corpus.per_emotion=4"]
    finish(begin(words, place / "prepare.log", 0.0))
    return place / "manifest"


def try_job(name: str, corpus: Path, place: Path, moments: int, pause: float = 0.25) -> list[Killed]:
    """Kill a job at so many moments, uniform over the wall time of one that is left alone."""
    job = JOBS[name]
    whole = place / "whole"
    began = time.monotonic()
    finish(begin(job.words(corpus, whole), place / "whole.log", pause))
    seconds = time.monotonic() - began
    wanted = job.outcome(whole)
    return [
        kill_and_resume(job, corpus, place / f"killed-{number}", (number + 0.5) / moments * seconds, wanted, pause)
        for number in range(moments)
    ]


def main() -> None:
    """The long form: every job, a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--job", choices=JOBS, action="append")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.job or JOBS:
            place = Path(folder) / name
            place.mkdir()
            killed = try_job(name, make_corpus(place), place, arguments.moments)
            wrong = [problem for one in killed for problem in one.wrong]
            inside = sum(one.inside_write for one in killed)
            print(f"{name}: killed at {len(killed)} moments, {inside} inside a write; {len(wrong)} differences", *wrong)


if __name__ == "__main__":
    main()
