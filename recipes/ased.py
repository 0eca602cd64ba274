"""ASED, five groups of speakers: five emotions and gender.

    python recipes/ased.py --root ASED_V1 --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has 01Neutral, 02Fearful, ... Random divisions test on the training speakers.
"""

from __future__ import annotations

from collections.abc import Sequence

from undertone.recipes.corpus_recipe import run_recipe


def main(words: Sequence[str] | None = None) -> None:
    """Run the recipe with these words, or with those of the command line."""
    run_recipe("ased", __doc__, "folder with 01Neutral, 02Fearful, ...", words)


if __name__ == "__main__":
    main()
