"""Memory and real-time factor over the length of a recording, and of live audio.

python benchmarks/long_file.py --minutes 2 20 --upstreams contours fbank wav2vec2-base --threads 1 --out long.json

For each upstream (random weights, head `attention`; `linear` for those with one frame) and length: a stereo file at
44.1 kHz of noise bursts is predicted in windows in a process of its own, whose peak memory and seconds of the processor
are printed; `--live` pushes the same audio in 100 ms pieces into a stream instead. Every window is predicted, as if it
held speech.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from own_process import measured_apart, peak_bytes

RATE = 44_100


def write_recording(path: Path, minutes: float) -> None:
    """Stereo, 16 bits, a minute at a time."""
    import numpy as np
    import soundfile

    random = np.random.default_rng(0)
    left = round(60 * minutes) * RATE
    with soundfile.SoundFile(path, "w", RATE, 2) as file:
        while left > 0:
            count = min(left, 60 * RATE)
            swell = np.abs(np.sin(np.arange(count) * 2 * np.pi * 2 / RATE))[:, None]
            file.write((0.1 * random.standard_normal((count, 2)) * swell).astype(np.float32))
            left -= count


def make_model(name: str, folder: Path) -> Any:
    """A model of random weights on this upstream."""
    import torch

    from undertone.downstream.config import UndertoneConfig
    from undertone.downstream.model import UndertoneModel
    from undertone.downstream.task import Task
    from undertone.upstream import load_upstream
    from undertone.upstream.hf.random_weights import save_random

    torch.manual_seed(0)
    local = name in ("contours", "fbank", "functionals")
    upstream = load_upstream(name if local else str(save_random(name, folder / "upstream")))
    tasks = [Task("emotion", "classification", ("angry", "happy", "neutral", "sad")).to_dict()]
    head = "linear" if name in ("contours", "functionals") else "attention"
    config = UndertoneConfig(upstream=upstream.spec(), head=head, tasks=tasks)
    return UndertoneModel(config, upstream).eval()


def measure(name: str, path: Path, live: bool, window: float, hop: float, threads: int) -> dict[str, Any]:
    """Windows, seconds of the processor, and peak memory before and after, in this process."""
    import soundfile
    import torch

    from undertone.audio.speech import no_speech
    from undertone.inference.stream import Stream
    from undertone.inference.windows import predict_windows

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(name, Path(folder))
    no_speech(torch.randn(RATE) * 0.1, 16_000)  # loads the detector
    before, began, windows = peak_bytes() / 2**20, time.process_time(), 0
    if live:
        stream = Stream(model, RATE, window=window, hop=hop, any_sound=True)
        pieces = soundfile.blocks(path, blocksize=RATE // 10, dtype="float32", always_2d=True)
        for _ in stream.run(pieces):
            windows += 1
    else:
        for _ in predict_windows(model, path, window=window, hop=hop, any_sound=True):
            windows += 1
    return {"windows": windows, "seconds": time.process_time() - began, "before": before, "peak": peak_bytes() / 2**20}


def main() -> None:
    """Measure each upstream and length in a process of its own; print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 20])
    parser.add_argument("--upstreams", nargs="+", default=["contours", "fbank", "wav2vec2-base"])
    parser.add_argument("--window", type=float, default=5.0)
    parser.add_argument("--hop", type=float, default=2.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--live", action="store_true", help="push 100 ms pieces into a stream")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=Path, help="a recording; measure here, print JSON")
    given = parser.parse_args()
    if given.one:
        (name,) = given.upstreams
        print(json.dumps(measure(name, given.one, given.live, given.window, given.hop, given.threads)))
        return
    rows = []
    print(f"{'upstream':<16}{'minutes':>8}{'windows':>9}{'seconds':>9}{'real time':>11}{'loaded MB':>11}{'peak MB':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for minutes in given.minutes:
            path = Path(folder) / "long.wav"
            write_recording(path, minutes)
            for name in given.upstreams:
                found = measured_apart([*sys.argv[1:], "--one", str(path), "--upstreams", name])
                factor = found["seconds"] / (60 * minutes)
                rows.append({"upstream": name, "minutes": minutes, "live": given.live, "factor": factor} | found)
                print(
                    f"{name:<16}{minutes:>8g}{found['windows']:>9}{found['seconds']:>9.1f}{factor:>11.3f}"
                    f"{found['before']:>11.0f}{found['peak']:>9.0f}",
                    flush=True,
                )
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
