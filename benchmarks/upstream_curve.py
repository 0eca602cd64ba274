"""What an upstream is worth by the number of labels: the same linear head on each, leave-one-speaker-out.

    python benchmarks/upstream_curve.py emodb --root DIR --store S --part test --upstream fbank --upstream my=runs/my

Of every training part a fraction of the labelled utterances is kept, drawn per class for each seed; all upstreams get
the same ones, make the same number of updates, and dev selects. Writes docs/results/labels-CORPUS.json and
docs/images/labels-CORPUS.png; --work holds what was trained, and the same command resumes. `--part dev` scores dev,
which selected the models: use it only to try this script.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from label_curve import curve_parser, write_curve

from undertone.common.console import Display
from undertone.experiments.open_run import open_run
from undertone.training.settings import make_config

SETTINGS = {"head": "linear", "tasks": ["emotion"], "max_steps": 300, "eval_every": 25, "patience": 5}


def main() -> None:
    """Train what --work lacks, write the curve and draw it."""
    parser = curve_parser(__doc__, "runs/upstream-curve")
    parser.add_argument("--upstream", action="append", required=True, help="NAME or NAME=UPSTREAM; repeat it")
    parser.add_argument("--store", required=True)
    arguments = parser.parse_intermixed_args()

    given = SETTINGS | {name: getattr(arguments, name) for name in ("corpus", "root", "store")}
    upstreams = {one.partition("=")[0]: one.partition("=")[2] or one for one in arguments.upstream}
    with tempfile.TemporaryDirectory() as folder:
        arms = {
            name: open_run(
                make_config(given | {"upstream": upstream}, arguments.settings), Path(folder) / name, Display()
            )
            for name, upstream in upstreams.items()
        }
        fingerprints = {name: run.upstream.fingerprint() for name, run in arms.items()}
        told = {"upstreams": upstreams, "fingerprints": fingerprints, "settings": SETTINGS, "words": arguments.settings}
        write_curve(arguments, arms, {name: name for name in arms}, told, "labels")


if __name__ == "__main__":
    main()
