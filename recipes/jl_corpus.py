"""JL corpus, four folds, each leaving one speaker out: five primary emotions and gender.

    python recipes/jl_corpus.py --root "Raw JL corpus" --upstream facebook/wav2vec2-base --push user/name

`--root` has the wav files. `corpus.labels=all` has all ten emotions; say which.

Published, WA in %; EmoBox (Ma 2024, arXiv 2406.07162) has Whisper large v3 / WavLM large, frozen. Ours was not run:

    EmoBox, leave one speaker out   66.71 / 60.86   dev shares speakers

Its table says five emotions, its split files hold all ten: `corpus.labels=all` is the nearer run.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("jl_corpus", __doc__, "folder of the wav files")
