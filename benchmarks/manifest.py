"""Time and memory of large corpora: a manifest that is mapped and divided, a table that is prepared again.

    python benchmarks/manifest.py --rows 1000000 --files 500000 --out manifest.json

`load` maps a manifest of synthetic rows; `start` also makes and checks five groups of speakers, chooses the tasks and
selects the training rows of the first fold. None of its files exist, so nothing of them can be read. `prepare` reads a
CSV whose files an earlier run has read (they exist, with 8 bytes each), and writes the manifest. Times are of the
processor, so that other work on the machine does not count; memory is the largest resident size of the process.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from own_process import measured_apart, peak_bytes

SPEAKERS, EMOTIONS, SENTENCES = 2000, ("angry", "happy", "neutral", "sad"), 5000
LANDMARKS = 24  # of three seconds at 16 kHz


def labels(number: int) -> dict[str, Any]:
    """The labels of a row."""
    speaker = number % SPEAKERS
    return {
        "speaker": f"spk{speaker:04d}",
        "gender": ("female", "male")[speaker % 2],
        "emotion": EMOTIONS[number * 7 % 4],
        "arousal": number % 97 / 96,
        "text": f"sentence {number % SENTENCES}",
    }


def name_of(number: int) -> str:
    """The file of a row, a thousand in a folder."""
    return f"part{number // 1000:04d}/utterance_{number:07d}.wav"


def write_manifest(folder: Path, count: int) -> None:
    """A manifest of files that do not exist."""
    from undertone.corpora.manifest import Manifest

    hashes = np.random.default_rng(0).bytes(32 * count).hex()
    rows = (
        {"id": name_of(number), "path": f"/no/such/folder/{name_of(number)}", "duration": 3.0, "size": 96044}
        | {"audio_hash": hashes[64 * number : 64 * number + 64], "extra": {"take": number % 9}}
        | labels(number)
        for number in range(count)
    )
    Manifest.from_rows("many", rows).save(folder)


def write_table(folder: Path, count: int) -> None:
    """FOLDER/table.csv, its files, and FOLDER/trusted, as if an earlier run had read them."""
    from undertone.corpora.measured import Measured, save_measured
    from undertone.corpora.own.table import Table
    from undertone.corpora.prepare import record_of

    for part in range(-(-count // 1000)):
        (folder / f"part{part:04d}").mkdir(parents=True)
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", *labels(0)])
        writer.writeheader()
        for number in range(count):
            writer.writerow({"file": name_of(number)} | labels(number))
            (folder / name_of(number)).write_bytes(b"no audio")
    numbers = np.random.default_rng(1)

    def known() -> Iterator[tuple[Any, Measured]]:
        """What an earlier run recorded of each file."""
        for number in range(count):
            path = folder / name_of(number)
            marks = numbers.integers(0, 2**63, LANDMARKS, dtype=np.uint64)
            digest, status = numbers.bytes(32).hex(), path.stat()
            yield (
                (str(path), None, None),
                Measured(16000, 1, 0.5, 3.0, digest, status.st_size, status.st_mtime_ns, marks),
            )

    save_measured(record_of(folder / "trusted", Table(folder / "table.csv"), folder), dict(known()))


def measure(step: str, folder: Path) -> dict[str, float]:
    """Processor seconds of imports and of the step, and the peak of this process, GB."""
    import datasets  # noqa: F401

    from undertone.corpora.folds import check_folds, make_folds
    from undertone.corpora.manifest import Manifest
    from undertone.corpora.own.table import Table
    from undertone.corpora.prepare import prepare

    if step == "start":
        from undertone.training.targets import choose_tasks

    found = {"import_s": time.process_time(), "import_GB": peak_bytes() / 1e9}
    began = time.process_time()
    if step == "prepare":
        prepare(Table(folder / "table.csv"), None, trusted=folder / "trusted").save(folder / "manifest")
    else:
        manifest = Manifest.load(folder)
        found["load_s"] = time.process_time() - began
        if step == "start":
            folds = make_folds(manifest, "groups")
            check_folds(folds, manifest)
            choose_tasks(manifest, (), {})
            manifest.select(folds[0].train)
    return found | {"cpu_s": time.process_time() - began, "peak_GB": peak_bytes() / 1e9}


def main() -> None:
    """Measure each step in a process of its own; print, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the manifest")
    parser.add_argument("--files", type=int, default=500_000, help="of the table")
    parser.add_argument("--folder", type=Path, help="where both are made; none: the system's temporary folder")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], Path(arguments.measure[1]))))
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        write_manifest(folder / "rows", arguments.rows)
        write_table(folder / "files", arguments.files)
        for step, place, count in (
            ("load", "rows", arguments.rows),
            ("start", "rows", arguments.rows),
            ("prepare", "files", arguments.files),
        ):
            rows.append({"step": step, "rows": count} | measured_apart(["--measure", step, str(folder / place)]))
            row = rows[-1]
            print(f"{step} of {count:,}: {row['cpu_s']:.1f} s, {row['peak_GB']:.2f} GB "
                  f"(before it, imports: {row['import_s']:.1f} s, {row['import_GB']:.2f} GB)", flush=True)  # fmt: skip
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
