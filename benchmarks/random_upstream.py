"""Write an upstream with the geometry of a real one and random weights, as a control.

python benchmarks/random_upstream.py wav2vec2-base models/random-wav2vec2-base
"""

from __future__ import annotations

import argparse

from undertone.upstream.hf.random_weights import ARCHITECTURES, save_random

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architecture", choices=sorted(ARCHITECTURES))
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(save_random(arguments.architecture, arguments.folder, arguments.seed))
