"""CaFE, twelve folds, each leaving one speaker out: seven emotions and gender.

    python recipes/cafe.py --root CaFE_48k --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` is one of the two copies, of 48 or 192 kHz. `tasks=emotion,gender,intensity` also learns the intensity.
"""

from __future__ import annotations

from collections.abc import Sequence

from undertone.recipes.corpus_recipe import run_recipe


def main(words: Sequence[str] | None = None) -> None:
    """Run the recipe with these words, or with those of the command line."""
    run_recipe("cafe", __doc__, "folder of one of the two copies", words)


if __name__ == "__main__":
    main()
