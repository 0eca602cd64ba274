"""Where the seconds of a first command go: `undertone predict` of one clip, and the commands beside it.

python benchmarks/first_command.py RUN_OR_MODEL CLIP ravdess RAVDESS --out docs/results/speed/first_command.json

Processor seconds on one thread, medians of some rounds, each in a new process. The steps of `predict` are timed in one
process in the order in which it takes them; what ending the process takes is left to the whole command.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from extraction import machine
from whole_command import UNDERTONE, seconds_of

STEPS = {
    "Python and the command line": "import undertone.cli; undertone.cli.set_up_process()",
    "`import torch`": "import torch",
    "`from transformers import PreTrainedModel`": "from transformers import PreTrainedModel",
    "our modules, torchaudio": "from undertone import load_model; import torchaudio",
    "loading the model": "model = load_model(sys.argv[1], device='cpu')",
    "the clip": "model.predict(sys.argv[2])",
}


def seconds_of_steps(model: str, clip: str) -> dict[str, float]:
    """Processor seconds of each of `STEPS`, in one new process."""
    lines = ["import json, sys, time", "times = [0.0]"]
    for code in STEPS.values():
        lines += [code, "times.append(time.process_time())"]
    lines.append("print(json.dumps(times))")
    done = subprocess.run([sys.executable, "-c", "\n".join(lines), model, clip], stdout=subprocess.PIPE, check=True)
    times = json.loads(done.stdout.splitlines()[-1])
    return {name: after - before for name, before, after in zip(STEPS, times, times[1:], strict=False)}


def main() -> None:
    """Measure, print, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run or a model folder")
    parser.add_argument("clip", help="a sound file")
    parser.add_argument("corpus")
    parser.add_argument("root", help="its folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        prepare = ["prepare", arguments.corpus, "--root", arguments.root, "--out", f"{folder}/manifest"]
        commands = {
            "`import undertone`": [sys.executable, "-c", "import undertone"],
            "`undertone --version`": [*UNDERTONE, "--version"],
            f"`undertone prepare {arguments.corpus}`": [*UNDERTONE, *prepare],
            "`undertone predict` of one clip": [*UNDERTONE, "predict", arguments.model, arguments.clip],
        }
        whole = {
            name: round(median(seconds_of(words)["cpu_s"] for _ in range(arguments.rounds)), 3)
            for name, words in commands.items()
        }
    rounds = [seconds_of_steps(arguments.model, arguments.clip) for _ in range(arguments.rounds)]
    steps = {name: round(median(one[name] for one in rounds), 3) for name in STEPS}
    found = {"commands": whole, "steps": steps, "rounds": arguments.rounds, "machine": machine(1, "cpu")}
    print(json.dumps(found, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
