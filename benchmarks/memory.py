"""Peak memory of training from a store ten times larger than the memory allowed for it.

python benchmarks/memory.py --upstream FOLDER --allowance 0.4 --out memory.json

Writes a store of synthetic frames with the upstream's geometry (ten times the allowance; it needs the disk), then runs
one epoch of the attention head over it in a separate process, and again with the whole store in memory. The figure is
the peak above what the process uses before: Python, its libraries and the head.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from own_process import measured_apart, peak_bytes

SECONDS = 4.5  # of a clip, IEMOCAP's mean
TIMES = 10  # the store's size in allowances


def write_store(folder: Path, upstream: Any, allowance: float) -> int:
    """Fill a store; returns its clips."""
    import torch

    from undertone.upstream.store.store import Store

    frames = int(upstream.frame_lengths(torch.tensor([int(SECONDS * upstream.sample_rate)])))
    shape = (upstream.num_layers, frames, upstream.hidden_size)
    count = int(TIMES * allowance * 1e9 / (2 * torch.Size(shape).numel())) + 1
    Store(folder, upstream).add((f"clip{number}", torch.randn(shape).half()) for number in range(count))
    return count


def measure(folder: Path, name: str, count: int, allowance: float) -> dict[str, Any]:
    """Train one epoch of the attention head; peak bytes above what was there before, and seconds."""
    import time

    import torch
    from accelerate import Accelerator

    from undertone.corpora.manifest import Utterance
    from undertone.downstream.network import Downstream
    from undertone.downstream.task import Task
    from undertone.training.settings import make_config
    from undertone.training.sources import StoreSource
    from undertone.training.trainer import Trainer, total_steps
    from undertone.upstream import load_upstream
    from undertone.upstream.store.store import Store
    from undertone.upstream.streams import stream_shapes

    upstream = load_upstream(name)
    task = Task("emotion", "classification", ("angry", "happy", "neutral", "sad"))
    clips = [
        Utterance(
            id=f"{n:06}", path="", corpus="made", audio_hash=f"clip{n}", duration=SECONDS, emotion=task.labels[n % 4]
        )
        for n in range(count)
    ]
    config = make_config({"corpus": "made"}, ["max_epochs=1"])
    source = StoreSource(Store(folder, upstream), int(allowance * 1e9))
    downstream = Downstream(stream_shapes(upstream), (task,), "attention", {})
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(config, (task,), source, downstream, Path(out), Accelerator(cpu=True))
        before, began = peak_bytes(), time.perf_counter()
        trainer.fit(clips, [], total_steps(config, count))
    return {
        "allowance_bytes": int(allowance * 1e9),
        "peak_bytes_above_model": peak_bytes() - before,
        "epoch_s": time.perf_counter() - began,
    }


def main() -> None:
    """Measure with the allowance and with room for all, each in a process of its own; print, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--allowance", type=float, default=0.4, help="GB")
    parser.add_argument("--folder", type=Path, help="where the store is made; none: the system's temporary folder")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        folder, count, allowance = arguments.measure
        print(json.dumps(measure(Path(folder), arguments.upstream, int(count), float(allowance))))
        return
    from undertone.upstream import load_upstream

    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        count = write_store(Path(folder), load_upstream(arguments.upstream), arguments.allowance)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors"))
        for allowance in (arguments.allowance, 2 * size / 1e9):
            found = measured_apart([*sys.argv[1:], "--measure", folder, str(count), str(allowance)])
            rows.append({"store_bytes": size, "clips": count} | found)
            row = rows[-1]
            print(f"store {size / 1e9:.2f} GB, allowance {row['allowance_bytes'] / 1e9:.2f} GB: peak "
                  f"{row['peak_bytes_above_model'] / 1e9:.2f} GB above the model, epoch {row['epoch_s']:.1f} s",
                  flush=True)  # fmt: skip
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
