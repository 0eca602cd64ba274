"""Undertone's `predict` compared with bare transformers on the same upstream: first call, warm calls, a folder.

python benchmarks/cost_of_use.py RUN_OR_MODEL UPSTREAM_FOLDER AUDIO_FOLDER --out cost_of_use.json

Paired: each round runs both sides one after the other, alternating which is first; the figures are medians of the
rounds' differences and ratios, so load that lasts longer than a round cancels. First prediction: from the start of a
new process, imports included, to the end of the first call on one file. Warm: one file again. Folder: the throughput
of `predict`, in float32 and in int8, divided by that of the bare transformers forward on the same clips one at a time,
and by that of the model alone, both on audio that was read beforehand; a ratio below 1 against the model is time spent
waiting for files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from extraction import machine

BARE = """
import time; began = time.perf_counter()
import sys, json
import soundfile, torch
from transformers import AutoFeatureExtractor, AutoModel
_, folder, sound = sys.argv
model, extract = AutoModel.from_pretrained(folder).eval(), AutoFeatureExtractor.from_pretrained(folder)
def call():
    wave, rate = soundfile.read(sound, dtype="float32")
    with torch.inference_mode():
        return model(**extract(wave, sampling_rate=rate, return_tensors="pt"), output_hidden_states=True)
"""
OURS = """
import time; began = time.perf_counter()
import sys, json
from undertone import load_model
_, folder, sound = sys.argv
model = load_model(folder, device="cpu")
def call():
    return model.predict(sound)
"""
MEASURE = """
call()
first, warm = time.perf_counter() - began, []
for _ in range(8):
    began = time.perf_counter()
    call()
    warm.append(time.perf_counter() - began)
print(json.dumps({"first": first, "warm": sorted(warm)[2]}))
"""


def in_process(code: str, folder: str, sound: str) -> dict[str, float]:
    """{first, warm} seconds of one side, in a process of its own."""
    command = [sys.executable, "-c", code + MEASURE, folder, sound]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def folder_sides(model_folder: str, upstream_folder: str, sounds: list[str]) -> dict[str, Callable[[], object]]:
    """The same files through bare transformers, through the model alone, and through `predict`."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    from undertone import load_model
    from undertone.audio.read import read_audio
    from undertone.upstream import WaveBatch
    from undertone.upstream.linear_layers import packed

    predictor = load_model(model_folder, device="cpu")
    in_int8 = load_model(model_folder, device="cpu", mixed_precision="int8")
    model, rate = predictor.model, predictor.model.sample_rate
    bare_model = AutoModel.from_pretrained(upstream_folder).eval()
    extract = AutoFeatureExtractor.from_pretrained(upstream_folder)
    waves = [read_audio(sound, rate) for sound in sounds]

    def bare() -> None:
        for wave in waves:
            with torch.inference_mode():
                bare_model(**extract(wave.numpy(), sampling_rate=rate, return_tensors="pt"), output_hidden_states=True)

    def alone() -> None:
        with packed(model):
            for wave in waves:
                model.predict_batch(WaveBatch.collate([wave], rate))

    return {
        "bare": bare,
        "alone": alone,
        "ours": lambda: predictor.predict(sounds),
        "int8": lambda: in_int8.predict(sounds),
    }


def folder_shares(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    """Files per second of `predict`, in float32 and int8, over those of the others, medians of the rounds.

    Beside them the median seconds of each side.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in [*sides][:: -1 if number % 2 else 1]:
            began = time.perf_counter()
            sides[name]()
            seconds[name].append(time.perf_counter() - began)

    def times(ours: str, other: str) -> float:
        return median(one / own for one, own in zip(seconds[other], seconds[ours], strict=True))

    return {
        "folder_s": {name: round(median(own), 3) for name, own in seconds.items()},
        "share_of_bare": times("ours", "bare"),
        "share_of_model": times("ours", "alone"),
        "int8_share_of_bare": times("int8", "bare"),
    }


def main() -> None:
    """Measure, print what was found, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run or a model folder")
    parser.add_argument("upstream", help="the folder of its upstream")
    parser.add_argument("sounds", type=Path, help="a folder of wav files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    sounds = [str(path) for path in sorted(arguments.sounds.rglob("*.wav"))]
    pairs = []
    for number in range(arguments.rounds):
        order = [("bare", BARE, arguments.upstream), ("ours", OURS, arguments.model)][:: -1 if number % 2 else 1]
        pairs.append({name: in_process(code, where, sounds[0]) for name, code, where in order})
    found = {
        "rounds": arguments.rounds,
        "bare_first_s": median(pair["bare"]["first"] for pair in pairs),
        "added_first_s": median(pair["ours"]["first"] - pair["bare"]["first"] for pair in pairs),
        "warm_ratio": median(pair["ours"]["warm"] / pair["bare"]["warm"] for pair in pairs),
    }
    import soundfile
    import torch

    folder = sounds[:: max(1, len(sounds) // 40)]
    found |= folder_shares(folder_sides(arguments.model, arguments.upstream, folder), arguments.rounds)
    found |= {"folder_audio_s": sum(soundfile.info(sound).duration for sound in folder)}
    found |= {"machine": machine(torch.get_num_threads(), "cpu")}
    print(
        f"load + first prediction adds {found['added_first_s']:+.3f} s to {found['bare_first_s']:.2f} s of transformers"
    )
    print(f"a warm call takes {found['warm_ratio']:.3f} times as long")
    of_bare, of_model = found["share_of_bare"], found["share_of_model"]
    print(f"predict over a folder: {of_bare:.3f} of bare transformers, {of_model:.3f} of the model alone")
    print(f"in int8: {found['int8_share_of_bare']:.3f} of bare transformers")
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
