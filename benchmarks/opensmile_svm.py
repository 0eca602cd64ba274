"""`undertone crossval --system functionals upstream=egemaps` and the script that one writes instead, on one corpus.

python benchmarks/opensmile_svm.py emodb --root EmoDB --out docs/results/speed/opensmile_svm.json

The script: openSMILE's eGeMAPS of every file, then for each speaker scikit-learn's GridSearchCV over C in a pipeline of
StandardScaler and LinearSVC, inner folds by speaker. Both sides are processes of their own, compared by the processor
seconds of their whole life, imports included, and have one thread; the scores are deleted unread. Ours also prepares
the corpus, stores the features, chooses C for gender too, trains the model of all speakers and writes the results.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SCRIPT = """
import sys
import numpy as np
import opensmile
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

rows = [line.rstrip("\\n").split("\\t") for line in open(sys.argv[1])]
files, speakers, labels = (np.array(column) for column in zip(*rows))
smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
features = smile.process_files(list(files)).to_numpy()
for speaker in np.unique(speakers):
    train = speakers != speaker
    model = make_pipeline(StandardScaler(), LinearSVC(class_weight="balanced", dual="auto", max_iter=10_000))
    search = GridSearchCV(model, {"linearsvc__C": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]}, cv=GroupKFold(5),
                          scoring="balanced_accuracy")
    search.fit(features[train], labels[train], groups=speakers[train])
    search.predict(features[~train])
"""


def processor_seconds(command: list[str]) -> float:
    """User and system time of a process that must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(corpus: str, root: str, folder: Path) -> dict[str, Any]:
    """Processor seconds of both sides, and of ours once more, from its store."""
    from undertone.corpora import load_corpus

    rows = list(load_corpus(corpus).rows(Path(root)))
    table = folder / "table.tsv"
    table.write_text("".join(f"{row['path']}\t{row['speaker']}\t{row['emotion']}\n" for row in rows))
    ours = [sys.executable, "-m", "undertone.cli", "crossval", corpus, "--root", root, "--system", "functionals"]
    ours += ["--upstream", "egemaps", "--store", str(folder / "store")]
    return {
        "corpus": corpus,
        "clips": len(rows),
        "ours_s": processor_seconds([*ours, "--out", str(folder / "first")]),
        "again_s": processor_seconds([*ours, "--out", str(folder / "second")]),
        "script_s": processor_seconds([sys.executable, "-c", SCRIPT, str(table)]),
    }


def main() -> None:
    """Measure, print, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--root", required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.corpus, arguments.root, Path(folder))
    print(json.dumps(found))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
