"""ShEMO, five groups of speakers: six emotions and gender.

    python recipes/shemo.py --root ShEMO --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has female and male. Fearful has 38 clips: look at its recall before the mean. Papers often leave it out.

No published number is quoted. Ours was not run.
"""

from functools import partial

from undertone.recipes.corpus_recipe import run_recipe

main = partial(run_recipe, "shemo", __doc__, "folder with female and male")

if __name__ == "__main__":
    main()
