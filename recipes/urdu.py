"""URDU, five groups of speakers: four emotions and gender.

    python recipes/urdu.py --root URDU-Dataset --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has Angry, Happy, Neutral and Sad. Random divisions test on the training speakers.

Published, WA in %; EmoBox (Ma 2024, arXiv 2406.07162) has Whisper large v3 / WavLM large, frozen. Ours was not run:

    EmoBox, a random quarter of the clips   82.52 / 86.61   SPEAKER-DEPENDENT

No speaker-independent figure was found.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("urdu", __doc__, "folder with Angry, Happy, Neutral and Sad")
