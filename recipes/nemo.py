"""nEMO, nine folds, each leaving one speaker out: six emotions and gender.

    python recipes/nemo.py --root nEMO --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` is the repository, with data.tsv and samples.

Published, WA in %: 83.95, random forest over MFCCs (Christop 2024, arXiv 2404.06292, the corpus' own paper, by a
summary that does not give its division). No figure that is known to be speaker-independent was found. Ours was not run.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("nemo", __doc__, "the repository, with data.tsv and samples")
