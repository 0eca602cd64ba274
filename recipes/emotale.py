"""EmoTale, 18 folds, each leaving one speaker out in both languages: five emotions and gender.

    python recipes/emotale.py --root EmoTale --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has wav, annotations.csv and speaker_info.csv. `corpus.language=danish` or `english` takes one language alone;
`tasks=arousal,valence,dominance` learns the means of the raters.

Published, UAR in %: 64.1, leave one speaker out, the best of several embeddings and feature sets (Hjuler 2025, arXiv
2508.14548, the corpus' own paper). Ours was not run.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("emotale", __doc__, "folder with wav and the two tables")
