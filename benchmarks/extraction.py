"""Extraction compared with the bare transformers forward over the same clips one at a time: paired runs, medians.

python benchmarks/extraction.py --upstream FOLDER --root EmoDB --root RAVDESS --out docs/results/extraction.json
python benchmarks/extraction.py --upstream FOLDER --root EmoDB --clips 40 --pairs 5 --threads 2

Ours: what `undertone extract` does once the files are known: decode, resample, forward, store the float16 frames of
all layers on disk, including checksums. Bare: soundfile, torchaudio's resampling if needed, the input normalisation
of the checkpoint, `AutoModel` with output_hidden_states in inference mode, without storing anything. The clips are
divided into as many lots as there are pairs, each with clips of all lengths. Each lot goes through both sides, which
alternate in going first, so that load on the machine affects both. Ours packs the weights for each lot again, which
takes half a second that a whole corpus needs only once: lots should take longer than a few seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

SOUNDS = {".wav", ".flac", ".aiff", ".ogg", ".mp3"}


@dataclass(frozen=True)
class Sound:
    """A whole file."""

    path: str
    duration: float
    audio_hash: str
    start: None = None
    end: None = None
    video: None = None
    boxes: None = None


def find_clips(roots: list[Path], clips: int | None) -> list[Sound]:
    """The audio files under the roots by length, or `clips` of them, evenly over the lengths."""
    from undertone.audio.read import read_samples
    from undertone.corpora.prepare import hash_audio

    paths, sounds = sorted(path for root in roots for path in root.rglob("*") if path.suffix.lower() in SOUNDS), []
    for path in paths:
        samples, rate = read_samples(path)
        sounds.append(Sound(str(path), len(samples) / rate, hash_audio(samples, rate)))
    sounds = list({sound.audio_hash: sound for sound in sounds}.values())  # as in extraction: the same audio once
    sounds.sort(key=lambda sound: sound.duration)
    if clips is None or clips >= len(sounds):
        return sounds
    return [sounds[round((place + 0.5) * len(sounds) / clips - 0.5)] for place in range(clips)]


def bare_forward(model: Any, sound: Sound, rate: int, normalize: bool, device: str) -> None:
    """What a short script with transformers does with one clip."""
    import soundfile
    import torch
    from torchaudio.functional import resample

    samples, file_rate = soundfile.read(sound.path, dtype="float32", always_2d=True)
    wave = resample(torch.from_numpy(samples.mean(1)), file_rate, rate)
    if normalize:
        wave = (wave - wave.mean()) / torch.sqrt(wave.var(correction=0) + 1e-7)
    states = model(wave[None].to(device), output_hidden_states=True).hidden_states
    float(states[-1][0, 0, 0])  # waits for a GPU


def count_flops(model: Any, sounds: list[Sound], rate: int) -> float:
    """Floating point operations of a forward of every clip: counted by torch at three lengths, quadratic between."""
    import numpy as np
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    lengths, counts = (2, 4, 8), []
    for seconds in lengths:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.randn(1, seconds * rate, device=model.device))
        counts.append(counter.get_total_flops())
    return float(np.polyval(np.polyfit(lengths, counts, 2), [sound.duration for sound in sounds]).sum())


def matmul_flops_per_second(device: str, dtype: str = "float32") -> float:
    """The best of some large matrix products here: what the arithmetic could reach."""
    import torch

    size = 8192 if device == "cuda" else 2048
    one, other = (torch.randn(size, size, device=device).to(getattr(torch, dtype)) for _ in range(2))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        float((one @ other)[0, 0])
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every pair, the medians, and what they mean."""
    import torch
    from transformers import AutoModel

    from undertone.upstream import load_upstream
    from undertone.upstream.store.extract import extract
    from undertone.upstream.store.store import Store

    torch.set_num_threads(arguments.threads)
    device = arguments.device
    upstream = load_upstream(arguments.upstream)
    model = AutoModel.from_pretrained(arguments.upstream).eval().to(device)
    rate, normalize = upstream.sample_rate, bool(getattr(upstream, "do_normalize", False))
    sounds = find_clips(arguments.root, arguments.clips)
    lots = [sounds[start :: arguments.pairs] for start in range(arguments.pairs)]
    pairs = []
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:

        def ours(lot: list[Sound], folder: Path) -> float:
            """Seconds of our extraction into an empty store."""
            store = Store(folder, upstream, arguments.kind, precision=arguments.precision)
            began = time.perf_counter()
            report = extract(upstream, lot, store, device=device)
            if report.computed != len(lot):
                raise SystemExit(
                    f"Give an empty --store: {report.computed} of {len(lot)} clips computed. {report.broken}"
                )
            return time.perf_counter() - began

        def bare(lot: list[Sound]) -> float:
            began = time.perf_counter()
            with torch.inference_mode():
                for sound in lot:
                    bare_forward(model, sound, rate, normalize, device)
            return time.perf_counter() - began

        warm = sounds[len(sounds) // 2 :][:2]
        ours(warm, Path(scratch)), bare(warm)
        for number, lot in enumerate(lots):
            first = bare(lot) if number % 2 else None
            own = ours(lot, arguments.store or Path(scratch) / f"lot{number}")
            pair = {"sounds": len(lot), "audio_s": sum(sound.duration for sound in lot), "ours_s": own}
            pairs.append(pair | {"bare_s": first if first is not None else bare(lot)})
            print(f"pair {number + 1}/{len(lots)}: bare / ours {pairs[-1]['bare_s'] / own:.3f}", file=sys.stderr)
    audio = sum(pair["audio_s"] for pair in pairs)
    work = count_flops(model, sounds, rate)
    dtype = "bfloat16" if arguments.precision == "bf16" else "float32"
    peak = arguments.peak_tflops * 1e12 if arguments.peak_tflops else matmul_flops_per_second(device, dtype)
    return {
        "upstream": Path(arguments.upstream).name,
        "kind": arguments.kind,
        "precision": arguments.precision,
        "sounds": len(sounds),
        "corpora": [root.name for root in arguments.root],
        "audio_s": audio,
        "ratio": median(pair["bare_s"] / pair["ours_s"] for pair in pairs),
        "ours_audio_s_per_s": median(pair["audio_s"] / pair["ours_s"] for pair in pairs),
        "bare_audio_s_per_s": median(pair["audio_s"] / pair["bare_s"] for pair in pairs),
        "tflop_per_audio_hour": work / audio * 3600 / 1e12,
        "share_of_peak": work / sum(pair["ours_s"] for pair in pairs) / peak,
        "peak_tflops": peak / 1e12,
        "peak_from": "--peak-tflops" if arguments.peak_tflops else f"{dtype} matrix product measured here",
        "pairs": pairs,
        "machine": machine(arguments.threads, device),
    }


def machine(threads: int, device: str) -> dict[str, Any]:
    """Where and with what this was measured."""
    import torch
    import transformers

    from undertone.experiments.bench import processor_name

    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False)
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else processor_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": commit.stdout.strip(),
    }


def main() -> None:
    """Measure, print the ratio, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", required=True, help="folder or Hub id of a model that takes waveforms")
    parser.add_argument("--root", type=Path, action="append", required=True, help="folder of audio files; repeatable")
    parser.add_argument("--clips", type=int, help="number of files, evenly over the lengths; default: all")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--kind", choices=("frames", "mean"), default="frames")
    parser.add_argument("--precision", choices=("no", "bf16", "fp16", "int8"), default="no")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peak-tflops", type=float, help="of the card's data sheet; default: measured")
    parser.add_argument("--scratch", type=Path, help="folder for the store, removed at the end")
    parser.add_argument("--store", type=Path, help="an empty store that keeps what is computed; default: none is kept")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = measure(arguments)
    print(
        f"{results['upstream']}: {results['sounds']} clips, {results['audio_s'] / 3600:.2f} h; "
        f"{results['ours_audio_s_per_s']:.1f} audio seconds per second, bare {results['bare_audio_s_per_s']:.1f}, "
        f"ratio {results['ratio']:.3f} (median of {len(results['pairs'])} pairs), "
        f"{100 * results['share_of_peak']:.0f} % of {results['peak_tflops']:.2f} TFLOP/s"
    )
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
