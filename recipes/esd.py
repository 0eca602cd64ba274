"""ESD, five folds, each testing a woman and a man of each language: five emotions and gender.

    python recipes/esd.py --root ESD --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has the speakers' folders 0001 to 0020. `corpus.language=english` or `mandarin` takes one language alone, with
two speakers a fold. The folders train, evaluation and test of the release share all speakers: figures of that division
are speaker-dependent and are not comparable.

Published, WA in %; EmoBox (Ma 2024, arXiv 2406.07162) has Whisper large v3 / WavLM large, frozen. Ours was not run:

    EmoBox, both languages, five folds of four speakers   84.62 / 79.14   dev shares speakers
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("esd", __doc__, "folder with 0001 to 0020")
