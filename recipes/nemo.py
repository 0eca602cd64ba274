"""nEMO, nine folds, each leaving one speaker out: six emotions and gender.

    python recipes/nemo.py --root nEMO --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` is the repository, with data.tsv and samples.

No published number is quoted. Ours was not run.
"""

from functools import partial

from undertone.recipes.corpus_recipe import run_recipe

main = partial(run_recipe, "nemo", __doc__, "the repository, with data.tsv and samples")

if __name__ == "__main__":
    main()
