"""SUBESCO, five groups of two women and two men: seven emotions and gender.

    python recipes/subesco.py --root SUBESCO --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has the wav files.

No published number is quoted. Ours was not run.
"""

from functools import partial

from undertone.recipes.corpus_recipe import run_recipe

main = partial(run_recipe, "subesco", __doc__, "folder of SUBESCO's wav files")

if __name__ == "__main__":
    main()
