"""TESS, two folds, each training on one speaker and testing the other: seven emotions.

    python recipes/tess.py --root TESS --upstream facebook/wav2vec2-base --push user/name

`--root` has the files once: many copies hold them twice. Dev is taken from the training speaker, for there is no third
one, and the results say so. Published figures near 100 % are of random divisions: both speakers, and most words, are in
training.

No published number is quoted. Ours was not run.
"""

from functools import partial

from undertone.recipes.corpus_recipe import run_recipe

main = partial(run_recipe, "tess", __doc__, "folder with TESS' files, once")

if __name__ == "__main__":
    main()
