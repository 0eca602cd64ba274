"""URDU, five groups of speakers: four emotions and gender.

    python recipes/urdu.py --root URDU-Dataset --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has Angry, Happy, Neutral and Sad. Random divisions test on the training speakers.

No published number is quoted. Ours was not run.
"""

from functools import partial

from undertone.recipes.corpus_recipe import run_recipe

main = partial(run_recipe, "urdu", __doc__, "folder with Angry, Happy, Neutral and Sad")

if __name__ == "__main__":
    main()
