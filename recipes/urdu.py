"""URDU, five groups of speakers: four emotions and gender.

    python recipes/urdu.py --root URDU-Dataset --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has Angry, Happy, Neutral and Sad. Random divisions test on the training speakers.
"""

from __future__ import annotations

from collections.abc import Sequence

from undertone.recipes.corpus_recipe import run_recipe


def main(words: Sequence[str] | None = None) -> None:
    """Run the recipe with these words, or with those of the command line."""
    run_recipe("urdu", __doc__, "folder with Angry, Happy, Neutral and Sad", words)


if __name__ == "__main__":
    main()
