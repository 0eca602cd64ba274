"""The common part of the corpus recipes: flags, run, report and push.

What the recipes quote of EmoBox (Ma 2024, arXiv 2406.07162) is the WA of its leaderboard, one corpus at a time.
By its code, the upstream is frozen and a small head learns from its last hidden state. Dev is a random fifth of the
training clips, so it shares speakers with train, except where the corpus has a dev part (MELD, MSP-Podcast). The test
predictions of all epochs are scored together: a figure is neither the last epoch's nor the best one's. A corpus
with fewer than four speakers, or whose speakers differ in their counts of emotions, is tested on a random quarter of
its clips, which is speaker-dependent. With 4 to 6 speakers one is left out, with more a group of about four. IEMOCAP's
folds are its sessions; EmoDB's five share speakers.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from undertone.experiments.crossval import crossval
from undertone.publish.push import check_target, push
from undertone.recipes.systems import load_system
from undertone.report.report import write_report
from undertone.training.settings import make_config


def run_recipe(corpus: str, description: str | None, root: str | None, **settings: Any) -> None:
    """Cross-validate a corpus, write the report, push where asked, as the command line says.

    Args:
        corpus: its name.
        description: of the recipe, for --help: its docstring.
        root: which folder --root is, for --help; None: the corpus makes its files, in OUT/corpus.
        settings: of the run, unless the command line says otherwise.

    Raises:
        ValueError: as `crossval`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if root is not None:
        parser.add_argument("--root", type=Path, required=True, help=root)
    parser.add_argument("--upstream", help="Hub id, folder, fbank (default), mfcc or spectrogram")
    parser.add_argument("--head", help="attention (default), linear, ./my_head.py, ...")
    parser.add_argument("--system", help="a preset (undertone list systems) or ./my_system.py")
    parser.add_argument("--out", type=Path, default=Path("runs") / corpus, help="folder of the run")
    parser.add_argument("--push", metavar="user/name", help="push the model to the Hub when done")
    parser.add_argument("settings", nargs="*", help="key=value, corpus.NAME=value")
    arguments = parser.parse_args()

    if arguments.push:
        check_target(arguments.push)
    folder = arguments.out / "corpus" if root is None else arguments.root
    given = {"corpus": corpus, "root": str(folder), "upstream": arguments.upstream, "head": arguments.head}
    preset = load_system(arguments.system) if arguments.system is not None else {}
    config = make_config(given, arguments.settings, preset={**settings, **preset})
    results = crossval(config, arguments.out)
    if results is None:
        return  # another process trains the last folds and will finish the run
    pooled = results["pooled"][results["tasks"][0]["name"]]
    scores = "  ".join(
        f"{name.upper()} {pooled[name]:.3f}" for name in ("uar", "wa", "ccc") if pooled.get(name) is not None
    )
    print(f"{scores}  report {write_report(arguments.out)}")
    if arguments.push:
        print(f"pushed {push(arguments.out, arguments.push)}")
