"""SAVEE, four folds, each leaving one speaker out: seven emotions; all speakers are men.

    python recipes/savee.py --root SAVEE --upstream facebook/wav2vec2-base --push user/name

`--root` has AudioData/DC, JE, JK and KL, or the files of a copy, DC_a01.wav. Random divisions, which many published
figures are from, test on the training speakers.

Published, WA in %; EmoBox (Ma 2024, arXiv 2406.07162) has Whisper large v3 / WavLM large, frozen. Ours was not run:

    EmoBox, leave one speaker out   77.24 / 70.80   dev shares speakers
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("savee", __doc__, "folder with AudioData")
