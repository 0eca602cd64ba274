"""EMOVO, six folds, each leaving one speaker out: seven emotions and gender.

    python recipes/emovo.py --root EMOVO --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has f1, f2, f3, m1, m2 and m3.

No published number is quoted. Ours was not run.
"""

from functools import partial

from undertone.recipes.corpus_recipe import run_recipe

main = partial(run_recipe, "emovo", __doc__, "folder with f1 to m3")

if __name__ == "__main__":
    main()
