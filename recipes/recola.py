"""RECOLA, five groups of speakers: arousal and valence over time, scored by CCC.

    python recipes/recola.py --root RECOLA --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has RECOLA-Audio-recordings and RECOLA-Annotation. The target is the mean of the six raters. The challenges'
figures are of another target and a fixed 9 / 9 / 9 speakers: not comparable. `corpus.segment=10` cuts recordings into
utterances of 10 s.
"""

from __future__ import annotations

from collections.abc import Sequence

from undertone.recipes.corpus_recipe import run_recipe


def main(words: Sequence[str] | None = None) -> None:
    """Run the recipe with these words, or with those of the command line."""
    root = "folder with RECOLA-Audio-recordings and RECOLA-Annotation"
    run_recipe("recola", __doc__, root, words, tasks=("series.arousal", "series.valence"), head="frames")


if __name__ == "__main__":
    main()
