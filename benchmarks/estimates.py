"""What `undertone bench` says a run will take, held against the run: the ratio of each training.

python benchmarks/estimates.py emodb --root EmoDB --upstream FOLDER --out docs/results/speed/estimates.json

Both sides in one process on one thread, in seconds of the processor, so that load on the machine does not count. A run
has few epochs and folds, and a new store: what is compared is the whole `undertone crossval`, from the command to the
model of all speakers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

# {what is trained: the bench's name of it, epochs, further settings}
CASES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "linear": ("linear", 20, ()),
    "sweep": ("linear", 20, ("sweep.lr=1e-2,1e-3,1e-4,1e-5,1e-6",)),  # of five rates, as `--system superb` has it
    "attention": ("attention", 4, ()),
    "lora": ("lora", 4, ()),
    "finetune": ("finetune", 4, ()),
}
FOLDS = 4


def compare(arguments: argparse.Namespace, name: str, folder: Path) -> dict[str, Any]:
    """{training, epochs, estimate_s, run_s, ratio}."""
    from undertone.common.console import Display
    from undertone.experiments.bench import TRAININGS, bench
    from undertone.experiments.crossval import crossval
    from undertone.training.settings import make_config

    training, epochs, more = CASES[name]
    words = [f"max_epochs={epochs}", "protocol=groups", f"num_folds={FOLDS}", f"store={folder / name}", *more]
    values = {"corpus": arguments.corpus, "root": arguments.root, "upstream": arguments.upstream, "device": "cpu"}
    config = make_config(values, words)
    found = bench(config, Display(quiet=True), seconds=arguments.seconds, only=(training,))
    (row,) = found["trainings"]
    began = time.process_time()
    crossval(config.model_copy(update=TRAININGS[training]), folder / f"run-{name}", Display(quiet=True))
    run = time.process_time() - began
    return {
        "training": name,
        "epochs": epochs,
        "estimate_s": row["total_s"],
        "run_s": run,
        "ratio": row["total_s"] / run,
    }


def main() -> None:
    """Compare, print a line each, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--root")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--only", default=",".join(CASES), help="trainings, separated by commas")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the bench")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    import undertone.experiments.crossval  # noqa: F401  # imported before anything is timed

    time.perf_counter = time.monotonic = time.process_time  # type: ignore[assignment]  # of the bench and the extraction
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only.split(","):
            rows.append(compare(arguments, name, Path(folder)))
            print(json.dumps(rows[-1]), flush=True)
            if arguments.out:
                upstream, corpus = Path(arguments.upstream).name, arguments.corpus
                found = {"corpus": corpus, "upstream": upstream, "folds": FOLDS, "rows": rows}
                arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
