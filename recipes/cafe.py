"""CaFE, twelve folds, each leaving one speaker out: seven emotions and gender.

    python recipes/cafe.py --root CaFE_48k --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` is one of the two copies, of 48 or 192 kHz. `tasks=emotion,gender,intensity` also learns the intensity.

Published, WA in %; EmoBox (Ma 2024, arXiv 2406.07162) has Whisper large v3 / WavLM large, frozen. Ours was not run:

    EmoBox, three folds of four speakers   68.84 / 61.33   dev shares speakers
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("cafe", __doc__, "folder of one of the two copies")
