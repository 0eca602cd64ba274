"""SAVEE, four folds, each leaving one speaker out: seven emotions; all speakers are men.

    python recipes/savee.py --root SAVEE --upstream facebook/wav2vec2-base --push user/name

`--root` has AudioData/DC, JE, JK and KL, or the files of a copy, DC_a01.wav. Random divisions, which many published
figures are from, test on the training speakers.
"""

from __future__ import annotations

from collections.abc import Sequence

from undertone.recipes.corpus_recipe import run_recipe


def main(words: Sequence[str] | None = None) -> None:
    """Run the recipe with these words, or with those of the command line."""
    run_recipe("savee", __doc__, "folder with AudioData", words)


if __name__ == "__main__":
    main()
