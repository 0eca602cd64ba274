"""MSP-IMPROV, six folds, each leaving one session out: angry, happy, neutral, sad, and gender.

    python recipes/msp_improv.py --root MSP-IMPROV --upstream microsoft/wavlm-base-plus --push user/name

`--root` has session1 to session6 and the table Evalution.txt. `corpus.labels=all tasks=arousal,valence,dominance`
learns the dimensions of all turns; `soft_labels=true` the fractions of the raters' votes.

No published number is quoted. Ours was not run.
"""

from functools import partial

from undertone.recipes.corpus_recipe import run_recipe

main = partial(run_recipe, "msp_improv", __doc__, "folder with session1 to session6 and Evalution.txt")

if __name__ == "__main__":
    main()
