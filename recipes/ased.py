"""ASED, five groups of speakers: five emotions and gender.

    python recipes/ased.py --root ASED_V1 --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has 01Neutral, 02Fearful, ... Random divisions test on the training speakers.

No published number is quoted. Ours was not run.
"""

from functools import partial

from undertone.recipes.corpus_recipe import run_recipe

main = partial(run_recipe, "ased", __doc__, "folder with 01Neutral, 02Fearful, ...")

if __name__ == "__main__":
    main()
