"""SUBESCO, five groups of two women and two men: seven emotions and gender.

    python recipes/subesco.py --root SUBESCO --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has the wav files.

Published, WA in %; EmoBox (Ma 2024, arXiv 2406.07162) has Whisper large v3 / WavLM large, frozen. Ours was not run:

    EmoBox, five folds of four speakers               73.05 / 65.33   dev shares speakers
    listeners (Sultana 2021, the corpus' own paper)   71
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("subesco", __doc__, "folder of SUBESCO's wav files")
