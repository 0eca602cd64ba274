"""MSP-IMPROV, six folds, each leaving one session out: angry, happy, neutral, sad, and gender.

    python recipes/msp_improv.py --root MSP-IMPROV --upstream microsoft/wavlm-base-plus --push user/name

`--root` has session1 to session6 and the table Evalution.txt. `corpus.labels=all tasks=arousal,valence,dominance`
learns the dimensions of all turns; `soft_labels=true` the fractions of the raters' votes.

Published, UAR in %: 61.5, XGBoost over audeering's wav2vec 2.0 embeddings (nkululeko's example, 2023), 4,918 turns of
the four classes. It trains on sessions 5 and 6 and tests on 1 to 4, once: speaker-independent, but not these folds.
Ours was not run, as the corpus needs a licence.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("msp_improv", __doc__, "folder with session1 to session6 and Evalution.txt")
