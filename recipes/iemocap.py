"""IEMOCAP, five folds, each leaving one session out: angry, happy (with excited), neutral, sad, and gender.

    python recipes/iemocap.py --root IEMOCAP_full_release --upstream microsoft/wavlm-large --push user/name

`--root` is the folder with Session1 to Session5. Any other setting follows the flags as key=value.
Papers differ in what they call IEMOCAP, so choose explicitly:

    corpus.labels=5class         frustrated as the fifth class; `all` has ten, and the turns without an agreement
    corpus.part=improvised       or scripted; both by default
    protocol=speaker             ten folds, each leaving one speaker out
    protocol=superb              SUPERB's: dev is drawn from the training speakers, and the results say so
    tasks=valence,arousal,dominance corpus.labels=all    the dimensions, of all 10,039 turns

The results hold the mean over the folds and the pooled value of all turns. SUPERB's number is the mean of WA over its
five folds, of a linear head whose learning rate was chosen for each upstream.
"""

from functools import partial

from undertone.recipes.corpus_recipe import run_recipe

main = partial(run_recipe, "iemocap", __doc__, "folder with Session1 to Session5")

if __name__ == "__main__":
    main()
