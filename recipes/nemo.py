"""nEMO, nine folds, each leaving one speaker out: six emotions and gender.

    python recipes/nemo.py --root nEMO --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` is the repository, with data.tsv and samples.
"""

from __future__ import annotations

from collections.abc import Sequence

from undertone.recipes.corpus_recipe import run_recipe


def main(words: Sequence[str] | None = None) -> None:
    """Run the recipe with these words, or with those of the command line."""
    run_recipe("nemo", __doc__, "the repository, with data.tsv and samples", words)


if __name__ == "__main__":
    main()
