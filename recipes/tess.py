"""TESS, two folds, each training on one speaker and testing the other: seven emotions.

    python recipes/tess.py --root TESS --upstream facebook/wav2vec2-base --push user/name

`--root` has the files once: many copies hold them twice. Dev is taken from the training speaker, for there is no third
one, and the results say so. Published figures near 100 % are of random divisions: both speakers, and most words, are in
training.

Published, WA in %; EmoBox (Ma 2024, arXiv 2406.07162) has Whisper large v3 / WavLM large, frozen. Ours was not run:

    EmoBox, a random quarter of the clips   99.96 / 99.78   SPEAKER-DEPENDENT

No speaker-independent figure was found.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("tess", __doc__, "folder with TESS' files, once")
