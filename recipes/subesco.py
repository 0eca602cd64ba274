"""SUBESCO, five groups of two women and two men: seven emotions and gender.

    python recipes/subesco.py --root SUBESCO --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has the wav files.
"""

from __future__ import annotations

from collections.abc import Sequence

from undertone.recipes.corpus_recipe import run_recipe


def main(words: Sequence[str] | None = None) -> None:
    """Run the recipe with these words, or with those of the command line."""
    run_recipe("subesco", __doc__, "folder of SUBESCO's wav files", words)


if __name__ == "__main__":
    main()
