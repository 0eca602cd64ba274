"""What a model of ours costs beside bare transformers with the same upstream: first prediction, warm calls, a folder.

python benchmarks/cost_of_use.py RUN_OR_MODEL UPSTREAM_FOLDER SOUND_FOLDER --out cost_of_use.json

Paired: in each round both sides run one after the other, in turn first, and the figures are medians of the rounds'
differences and ratios. First prediction: from the start of a fresh process (its imports, too) to the end of the first
call on one file. Warm: one file again. Folder: files per second of `predict` against the same model on the same
batches, read and resampled beforehand. Loads of the machine that last less than a round cancel; others do not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

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


def share_of_bare(model_folder: str, sounds: list[str], rounds: int) -> list[float]:
    """Files per second of `predict` over those of the model alone on the same batches, for each round."""
    from undertone import load_model
    from undertone.audio.read import audio_info, read_audio
    from undertone.inference.predict import make_batches
    from undertone.upstream import WaveBatch

    predictor = load_model(model_folder, device="cpu")
    model, rate = predictor.model, predictor.model.sample_rate
    batches = make_batches({number: audio_info(sound).duration for number, sound in enumerate(sounds)}, 60.0)
    ready = [WaveBatch.collate([read_audio(sounds[index], rate) for index in batch], rate) for batch in batches]

    def bare() -> None:
        for batch in ready:
            model.predict_batch(batch)

    shares = []
    for number in range(rounds):
        sides = {"bare": bare, "ours": lambda: predictor.predict(sounds)}
        seconds = {}
        for name in sorted(sides, reverse=bool(number % 2)):
            began = time.perf_counter()
            sides[name]()
            seconds[name] = time.perf_counter() - began
        shares.append(seconds["bare"] / seconds["ours"])
    return shares


def main() -> None:
    """Measure, print three lines, write the file."""
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
        "share_of_bare": median(share_of_bare(arguments.model, sounds[:: max(1, len(sounds) // 40)], arguments.rounds)),
    }
    print(
        f"load + first prediction adds {found['added_first_s']:+.3f} s to {found['bare_first_s']:.2f} s of transformers"
    )
    print(f"a warm call takes {found['warm_ratio']:.3f} times as long")
    print(f"predict over a folder: {found['share_of_bare']:.3f} of the model alone")
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
