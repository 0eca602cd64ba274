"""EMOVO, six folds, each leaving one speaker out: seven emotions and gender.

    python recipes/emovo.py --root EMOVO --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has f1, f2, f3, m1, m2 and m3.

Published, WA in %; EmoBox (Ma 2024, arXiv 2406.07162) has Whisper large v3 / WavLM large, frozen. Ours was not run:

    EmoBox, leave one speaker out                       57.82 / 48.82   dev shares speakers
    listeners, two of the sentences (Costantini 2014)   80
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("emovo", __doc__, "folder with f1 to m3")
