"""ShEMO, five groups of speakers: six emotions and gender.

    python recipes/shemo.py --root ShEMO --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has female and male. Fearful has 38 clips: look at its recall before the mean. Papers often leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence

from undertone.recipes.corpus_recipe import run_recipe


def main(words: Sequence[str] | None = None) -> None:
    """Run the recipe with these words, or with those of the command line."""
    run_recipe("shemo", __doc__, "folder with female and male", words)


if __name__ == "__main__":
    main()
