"""SAVEE, four folds, each leaving one speaker out: seven emotions; all speakers are men.

    python recipes/savee.py --root SAVEE --upstream facebook/wav2vec2-base --push user/name

`--root` has AudioData/DC, JE, JK and KL, or the files of a copy, DC_a01.wav. Random divisions, which many published
figures are from, test on the training speakers.

No published number is quoted. Ours was not run.
"""

from functools import partial

from undertone.recipes.corpus_recipe import run_recipe

main = partial(run_recipe, "savee", __doc__, "folder with AudioData")

if __name__ == "__main__":
    main()
