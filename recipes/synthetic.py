"""The synthetic corpus, four groups of speakers: a run that needs no data, to try an upstream or a head of your own.

Usage: python recipes/synthetic.py --upstream fbank head=linear max_epochs=10
"""

from __future__ import annotations

import argparse
from pathlib import Path

from undertone.experiments.crossval import crossval
from undertone.report.report import write_report
from undertone.training.settings import make_config


def main() -> None:
    """Make the corpus in RUN/corpus, cross-validate, write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", default="fbank", help="Hub id, folder, fbank, mfcc or spectrogram")
    parser.add_argument("--out", type=Path, default=Path("runs/synthetic"), help="folder of the run")
    parser.add_argument("settings", nargs="*", help="key=value")
    arguments = parser.parse_args()

    given = {
        "corpus": "synthetic",
        "root": str(arguments.out / "corpus"),
        "upstream": arguments.upstream,
        "protocol": "groups",
        "num_folds": 4,
    }
    results = crossval(make_config(given, arguments.settings), arguments.out)
    if results is not None:
        print(f"UAR {results['pooled']['emotion']['uar']:.3f}  report {write_report(arguments.out)}")


if __name__ == "__main__":
    main()
