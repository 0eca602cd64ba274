"""torch.compile of a model on an upstream of base geometry: how long compiling takes, and what it gains.

python benchmarks/compiled.py models/random-wav2vec2-base --seconds 4 --threads 2
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from undertone.downstream.config import UndertoneConfig
from undertone.downstream.model import UndertoneModel
from undertone.downstream.task import Task
from undertone.upstream import load_upstream


def main() -> None:
    """Print a line for the first call and one for each side's median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--calls", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    upstream = load_upstream(options.upstream)
    emotion = Task("emotion", "classification", ("angry", "happy", "neutral", "sad"))
    config = UndertoneConfig(upstream=upstream.spec(), upstream_hash=upstream.weights_hash(), tasks=[emotion.to_dict()])
    model = UndertoneModel(config, upstream).eval()
    wave = 0.1 * torch.randn(1, int(16_000 * options.seconds), generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(model, fullgraph=True)
    with torch.inference_mode():
        expected = model(wave).logits
        before = os.times()
        first = seconds_of(lambda: compiled(wave).logits)
        work = sum(after - then for then, after in zip(before[:4], os.times()[:4], strict=True))
        difference = float((compiled(wave).logits - expected).abs().max())
        took = f"{first:.1f} s, {work:.1f} s of processors"
        print(f"first call, with the compilation: {took}; largest difference of a logit {difference:.1e}")
        pairs = [
            (seconds_of(lambda: model(wave).logits), seconds_of(lambda: compiled(wave).logits))
            for _ in range(options.calls)
        ]
    plain, fast = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(
        f"{options.seconds:g} s of audio: {plain:.3f} s plain, {fast:.3f} s compiled, {plain / fast:.2f} times as fast"
    )


def seconds_of(call: Callable[[], Tensor]) -> float:
    """Wall-clock time of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
