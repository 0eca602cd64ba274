"""Kill a job at moments uniform over its wall time, resume it, and compare with one that was left alone.

python tests/faults/kills.py                # the long form, 30 moments a job; a test runs a short one
python tests/faults/kills.py --part 1/3     # every third of these moments, from the first on

Each job is a process of its own, forked from one that has loaded Python and torch: no moment is spent on their start.
Writes are slowed so that a known share of the wall time, and of the kills, falls inside one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from safetensors import safe_open

SETTINGS = ("head.hidden_size=8", "batch_size=8", "device=cpu", "patience=100")
LONG = ("max_steps=30", "eval_every=5")
SHARE = 0.5  # of a job's wall time that it is inside a write
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["undertone.tests.faults.slowed"])


@dataclass(frozen=True)
class Job:
    """What is killed.

    Attributes:
        words: corpus, folder -> the command.
        outcome: folder -> what must be the same, file by file.
        done: file patterns of what, once there, must never be made again.
    """

    words: Callable[[Path, Path], list[str]]
    outcome: Callable[[Path], dict[str, bytes]]
    done: tuple[str, ...]


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
        ("*.safetensors",),
    ),
    "training": Job(_run("train"), run_outcome, ("fold.json", "checkpoints/step-*")),
    "cross-validation": Job(_run("crossval"), run_outcome, ("fold.json", "checkpoints/step-*")),
}


@dataclass(frozen=True)
class Killed:
    """How a job ended that was killed and resumed.

    Attributes:
        after: seconds.
        inside_write: whether it was inside a write then.
        progress: share of its writes that had begun.
        wrong: what was not as it must be.
    """

    after: float
    inside_write: bool
    progress: float
    wrong: list[str]


def begin(words: Sequence[str], log: Path, pause: float) -> BaseProcess:
    """The command as a process with slowed writes."""
    process = FORKED.Process(target=_command, args=(words, log, pause, log.with_suffix(".err")))
    process.start()
    return process


def _command(*arguments: object) -> None:
    from undertone.tests.faults import slowed  # here and not above: it changes the process that imports it

    slowed.command(*arguments)


def finish(process: BaseProcess, log: Path) -> None:
    """Wait for a process that must end well."""
    process.join(600)
    if process.exitcode != 0:
        process.kill()
        raise RuntimeError(f"The job ended with {process.exitcode}:\n{log.with_suffix('.err').read_text()}")


def timed(job: Job, corpus: Path, folder: Path) -> tuple[float, int]:
    """Leave a job alone, its writes not slowed: seconds, and how many writes of safetensors there were."""
    log = folder.with_suffix(".log")
    began = time.monotonic()
    finish(begin(job.words(corpus, folder), log, 0.0), log)
    return time.monotonic() - began, _notes(log)["in"]


def _notes(log: Path) -> Counter[str]:
    return Counter(line.split(" ", 1)[0] for line in log.read_text().splitlines()) if log.is_file() else Counter()


class Attempts:
    """Kills of one job.

    Args:
        job: what is killed.
        corpus: its manifest.
        place: an empty folder.
    """

    def __init__(self, job: Job, corpus: Path, place: Path) -> None:
        self.job, self.corpus, self.place, self.begun = job, corpus, place, 0
        seconds, self.writes = timed(job, corpus, place / "whole")
        self.pause = SHARE / (1 - SHARE) * seconds / self.writes
        self.seconds = seconds / (1 - SHARE)  # with slowed writes
        self.wanted = job.outcome(place / "whole")

    def at(self, moment: float) -> Killed:
        """Start the job again, kill it at a share of its wall time, resume it, compare.

        One that has ended by then, since the machine has less to do than before, gives its wall time, and the moment
        is tried again.
        """
        while True:
            self.begun += 1
            folder = self.place / f"killed-{self.begun}"
            log, began = folder.with_suffix(".log"), time.monotonic()
            process = begin(self.job.words(self.corpus, folder), log, self.pause)
            process.join(moment * self.seconds)
            if process.exitcode is None:
                process.kill()
                process.join()
                return self._resume(folder, log, moment * self.seconds)
            finish(process, log)
            self.seconds = time.monotonic() - began

    def _resume(self, folder: Path, log: Path, after: float) -> Killed:
        notes, kept = _notes(log), self._done(folder)
        again = folder.with_suffix(".again.log")
        try:
            finish(begin(self.job.words(self.corpus, folder), again, 0.0), again)
        except RuntimeError as error:
            return Killed(after, notes["in"] > notes["out"], notes["in"] / self.writes, [str(error)])
        written = {line.split(" ", 1)[1] for line in again.read_text().splitlines()} if again.is_file() else set()
        wrong = [f"{path} was made again" for path, of in kept.items() if str(path) in written or _changed(path, of)]
        found, wanted = self.job.outcome(folder), self.wanted
        wrong += [
            f"{name} differs" for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)
        ]
        return Killed(after, notes["in"] > notes["out"], notes["in"] / self.writes, wrong)

    def _done(self, folder: Path) -> dict[Path, tuple[int, int]]:
        paths = [path for pattern in self.job.done for path in whole_files(folder, pattern)]
        return {path: _identity(path) for path in paths}


def _identity(path: Path) -> tuple[int, int]:
    return path.stat().st_mtime_ns, path.stat().st_ino


def _changed(path: Path, identity: tuple[int, int]) -> bool:
    """Whether it is another file now; a checkpoint goes when its training is done."""
    return _identity(path) != identity if path.exists() else not path.name.startswith("step-")


def make_corpus(place: Path) -> Path:
    """A prepared manifest of 64 made-up utterances of four speakers."""
    words = ["prepare", "synthetic", "--root", str(place / "audio"), "--out", str(place / "manifest")]
    words += ["corpus.num_speakers=4", "corpus.per_emotion=4"]
    finish(begin(words, place / "prepare.log", 0.0), place / "prepare.log")
    return place / "manifest"


def try_job(name: str, corpus: Path, place: Path, moments: int, part: int = 0, parts: int = 1) -> list[Killed]:
    """Kill a job at the moments of a part, of so many uniform over its wall time."""
    attempts = Attempts(JOBS[name], corpus, place)
    return [attempts.at((number + 0.5) / moments) for number in range(part, moments, parts)]


def line(name: str, killed: Sequence[Killed]) -> str:
    """What came out: the kills inside a write, by quarter of the job's writes, and all that was wrong."""
    wrong = [problem for one in killed for problem in one.wrong]
    inside, quarters = sum(one.inside_write for one in killed), Counter(min(int(4 * one.progress), 3) for one in killed)
    spread = ", ".join(str(quarters[quarter]) for quarter in range(4))
    said = f"{name}: killed at {len(killed)} moments, {inside} inside a write, in the quarters of its writes {spread}"
    return "\n  ".join([f"{said}; {len(wrong)} differences", *wrong])


def main() -> None:
    """The long form: every job, a line for each; the exit status is 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--job", choices=JOBS, action="append")
    parser.add_argument("--part", default="1/1", help="the K-th of every N moments, as K/N")
    arguments = parser.parse_args()
    part, parts = map(int, arguments.part.split("/"))
    os.environ["OMP_NUM_THREADS"] = "1"  # also of the process that the jobs are forked from
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.job or JOBS:
            place = Path(folder) / name
            place.mkdir()
            killed = try_job(name, make_corpus(place), place, arguments.moments, part - 1, parts)
            print(line(name, killed), flush=True)
            failed |= any(one.wrong for one in killed)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
