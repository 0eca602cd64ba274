"""ASED, five groups of speakers: five emotions and gender.

    python recipes/ased.py --root ASED_V1 --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has 01Neutral, 02Fearful, ... Random divisions test on the training speakers.

Published, WA in %; EmoBox (Ma 2024, arXiv 2406.07162) has Whisper large v3 / WavLM large, frozen. Ours was not run:

    EmoBox, a random quarter of the clips           96.73 / 96.45   SPEAKER-DEPENDENT
    VGG over MFCCs (Retta 2022, arXiv 2201.02710)   90.73   WA; its division is not in the abstract

Retta 2022 also divides by groups of speakers; that figure was not found.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("ased", __doc__, "folder with 01Neutral, 02Fearful, ...")
