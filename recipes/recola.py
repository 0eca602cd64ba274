"""RECOLA, five groups of speakers: arousal and valence over time, scored by CCC.

    python recipes/recola.py --root RECOLA --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has RECOLA-Audio-recordings and RECOLA-Annotation. The target is the mean of the six raters. The challenges'
figures are of another target and a fixed 9 / 9 / 9 speakers: not comparable. `corpus.segment=10` cuts recordings into
utterances of 10 s.

Published, test, with another target, CCC: arousal .715 of audio alone (Tzirakis 2017); arousal .719 and valence .596
of audio with video and physiology (Povolny 2016, the AVEC 2016 challenge). Ours was not run, as the corpus needs a
licence.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe(
        "recola",
        __doc__,
        "folder with RECOLA-Audio-recordings and RECOLA-Annotation",
        tasks=("series.arousal", "series.valence"),
        head="frames",
    )
