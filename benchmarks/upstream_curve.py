"""What an upstream is worth by the number of labels: the same linear head on each, leave-one-speaker-out.

    python benchmarks/upstream_curve.py emodb --root DIR --store S --part test --upstream fbank --upstream my=runs/my

Of every training part a fraction of the labelled utterances is kept, drawn per class for each seed; all upstreams get
the same ones, make the same number of updates, and dev selects. Writes docs/results/labels-CORPUS.json and
docs/images/labels-CORPUS.png; --work holds what was trained, and the same command resumes. `--part dev` scores dev,
which selected the models: use it only to try this script.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from label_curve import draw_figure, measure, open_work

from undertone.common.console import Display
from undertone.common.files import write_json
from undertone.experiments.open_run import open_run
from undertone.training.settings import make_config

DOCS = Path(__file__).resolve().parents[1] / "docs"
SETTINGS = {"head": "linear", "tasks": ["emotion"], "max_steps": 300, "eval_every": 25, "patience": 5}


def main() -> None:
    """Train what --work lacks, write the curve and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--root", required=True)
    parser.add_argument("--upstream", action="append", required=True, help="NAME or NAME=UPSTREAM; repeat it")
    parser.add_argument("--store", required=True)
    parser.add_argument("--part", choices=("dev", "test"), required=True)
    parser.add_argument("--shares", type=lambda text: [float(part) for part in text.split(",")], default=[0.1, 0.25, 1])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/upstream-curve"))
    parser.add_argument("--out", type=Path, default=DOCS / "results")
    parser.add_argument("--images", type=Path, default=DOCS / "images")
    parser.add_argument("settings", nargs="*", help="key=value")
    arguments = parser.parse_intermixed_args()

    given = SETTINGS | {name: getattr(arguments, name) for name in ("corpus", "root", "store")}
    upstreams = {one.partition("=")[0]: one.partition("=")[2] or one for one in arguments.upstream}
    with tempfile.TemporaryDirectory() as folder:
        arms = {}
        for name, upstream in upstreams.items():
            config = make_config(given | {"upstream": upstream}, arguments.settings)
            arms[name] = open_run(config, Path(folder) / name, Display())
        told: dict[str, Any] = {"corpus": arguments.corpus, "part": arguments.part, "upstreams": upstreams}
        told["fingerprints"] = {name: run.upstream.fingerprint() for name, run in arms.items()}
        told |= {"num_seeds": arguments.seeds, "settings": SETTINGS | {"words": arguments.settings}}
        open_work(arguments.work, told)
        told["rows"] = [
            measure(arms, arguments.part, share, arguments.seeds, arguments.work) for share in arguments.shares
        ]
    write_json(arguments.out / f"labels-{arguments.corpus}.json", told)
    draw_figure(told, {name: name for name in arms}, arguments.images / f"labels-{arguments.corpus}.png")


if __name__ == "__main__":
    main()
