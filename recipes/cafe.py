"""CaFE, twelve folds, each leaving one speaker out: seven emotions and gender.

    python recipes/cafe.py --root CaFE_48k --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` is one of the two copies, of 48 or 192 kHz. `tasks=emotion,gender,intensity` also learns the intensity.

No published number is quoted. Ours was not run.
"""

from functools import partial

from undertone.recipes.corpus_recipe import run_recipe

main = partial(run_recipe, "cafe", __doc__, "folder of one of the two copies")

if __name__ == "__main__":
    main()
