"""MELD, the official split: seven emotions. SPEAKER-DEPENDENT: 95.8 % of test is by training speakers.

    python recipes/meld.py --root MELD.Raw --upstream facebook/hubert-large-ll60k --push user/name

`--root` has the folders train_splits, dev_splits_complete and output_repeated_splits_test, with the audio extracted
from each clip beside it, and the three tables. Published figures are of this split, in weighted F1, and are all
speaker-dependent. What unseen speakers score:

    python recipes/meld.py --root MELD.Raw --out runs/meld-groups protocol=groups

Published, WA in %; EmoBox (Ma 2024, arXiv 2406.07162) has Whisper large v3 / WavLM large, frozen. Ours was not run:

    EmoBox, the official split, seven emotions   51.89 / 49.31   SPEAKER-DEPENDENT

No weighted F1 of audio alone and no speaker-independent figure was found.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("meld", __doc__, "folder with the clips of the three parts and their tables")
