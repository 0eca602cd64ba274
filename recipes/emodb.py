"""EmoDB, ten folds, each leaving one speaker out: seven emotions and gender.

    python recipes/emodb.py --root EmoDB --upstream microsoft/wavlm-base-plus --push user/name

`--root` is the folder of the published wav files. Anything else that a run can be told goes behind the flags as
key=value: `python recipes/emodb.py --root EmoDB seed=1 head.hidden_size=256`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from undertone.hub.push import push
from undertone.training.config import make_config
from undertone.training.crossval import crossval
from undertone.training.report import write_report


def main() -> None:
    """Cross-validate, write the report, push where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of EmoDB's wav files")
    parser.add_argument("--upstream", default="fbank", help="Hub id, folder, fbank, mfcc or spectrogram")
    parser.add_argument("--out", type=Path, default=Path("runs/emodb"), help="folder of the run")
    parser.add_argument("--push", metavar="user/name", help="push the model to the Hub when done")
    parser.add_argument("settings", nargs="*", help="key=value")
    arguments = parser.parse_args()

    given = {"corpus": "emodb", "root": str(arguments.root), "upstream": arguments.upstream}
    results = crossval(make_config(given, arguments.settings), arguments.out)
    if results is None:
        return  # another process is busy with the last folds and will end the run
    pooled = results["pooled"]["emotion"]
    print(f"UAR {pooled['uar']:.3f}  WA {pooled['wa']:.3f}  report {write_report(arguments.out)}")
    if arguments.push:
        print(f"pushed {push(arguments.out, arguments.push)}")


if __name__ == "__main__":
    main()
