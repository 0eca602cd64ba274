"""The speed of several ways to run a frozen upstream on a CPU, relative to the plain forward of transformers.

python benchmarks/forward_variants.py --upstream FOLDER --root EmoDB --clips 12 --out docs/results/forward_variants.json

Paired runs on single clips. The `packed` ones are what extraction uses; the others were tried. The speed-up is the
median over pairs of plain time / variant time, without set-up (packing, compiling for the first clips), which is given
separately. The error is the largest difference of a hidden state relative to the largest hidden state of that layer.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from extraction import find_clips, machine
from torch import Tensor, nn
from torch.nn.utils import parametrize

Forward = Callable[[Tensor], Any]


@contextmanager
def plain(model: nn.Module) -> Iterator[Forward]:
    with torch.inference_mode():
        yield model


@contextmanager
def packed(model: nn.Module, precision: str = "no") -> Iterator[Forward]:
    from undertone.upstream import linear_layers
    from undertone.upstream.precision import autocast

    with linear_layers.packed(model, precision), autocast(torch.device("cpu"), precision):
        yield model


@contextmanager
def cached_weight_norm(model: nn.Module) -> Iterator[Forward]:
    with torch.inference_mode(), parametrize.cached():
        yield model


@contextmanager
def flush_denormals(model: nn.Module) -> Iterator[Forward]:
    torch.set_flush_denormal(True)
    try:
        with torch.inference_mode():
            yield model
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def autocast_bf16(model: nn.Module) -> Iterator[Forward]:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        yield model


@contextmanager
def compiled(model: nn.Module) -> Iterator[Forward]:
    """One graph for every length; the compiler freezes and packs the weights."""
    from torch._inductor import config

    with torch.inference_mode(), config.patch(freezing=True):
        yield compile_once(model)


@cache
def compile_once(model: nn.Module) -> Forward:
    return torch.compile(model, dynamic=True)


VARIANTS = {
    "packed": packed,
    "cached weight norm": cached_weight_norm,
    "flush denormals": flush_denormals,
    "autocast bf16": autocast_bf16,
    "packed, bf16": partial(packed, precision="bf16"),
    "packed, int8": partial(packed, precision="int8"),
    "torch.compile, dynamic, freezing": compiled,
}


def hidden_states(forward: Forward, waves: list[Tensor]) -> tuple[float, list[tuple[Tensor, ...]]]:
    """Seconds for all clips, and their hidden states."""
    began = time.perf_counter()
    states = [forward(wave[None], output_hidden_states=True).hidden_states for wave in waves]
    return time.perf_counter() - began, states


def measure(name: str, model: nn.Module, waves: list[Tensor], pairs: int) -> dict[str, Any]:
    """Ratio, set-up and error of one variant."""
    ratios, errors, setup = [], [], 0.0
    with plain(model) as forward:
        _, expected = hidden_states(forward, waves)
    with VARIANTS[name](model) as forward:
        first, got = hidden_states(forward, waves)
        again, _ = hidden_states(forward, waves)
        setup = first - again
        for wanted, found in zip(expected, got, strict=True):
            errors += [float((b.float() - a).abs().max() / a.abs().max()) for a, b in zip(wanted, found, strict=True)]
    for _ in range(pairs):
        with plain(model) as forward:
            bare, _ = hidden_states(forward, waves)
        with VARIANTS[name](model) as forward:
            hidden_states(forward, waves[:1])
            ratios.append(bare / hidden_states(forward, waves)[0])
    return {"variant": name, "ratio": median(ratios), "ratios": ratios, "setup_s": setup, "error": max(errors)}


def main() -> None:
    """Measure every variant that works here; print a table and write the file."""
    from transformers import AutoModel

    from undertone.audio.read import read_audio

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--root", type=Path, action="append", required=True)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="only this; repeatable")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = AutoModel.from_pretrained(arguments.upstream).eval()
    waves = [read_audio(sound.path, 16_000) for sound in find_clips(arguments.root, arguments.clips)]
    rows = []
    for name in arguments.variant or VARIANTS:
        rows.append(measure(name, model, waves, arguments.pairs))
        row = rows[-1]
        print(f"{name:34} {row['ratio']:.3f}   set up {row['setup_s']:.1f} s   error {row['error']:.1e}", flush=True)
    results = {
        "upstream": Path(arguments.upstream).name,
        "clips": len(waves),
        "audio_s": sum(len(wave) for wave in waves) / 16_000,
        "variants": rows,
        "machine": machine(arguments.threads, "cpu"),
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
