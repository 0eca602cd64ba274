"""RAVDESS speech, six folds of two men and two women each: eight emotions and gender.

    python recipes/ravdess.py --root RAVDESS --upstream facebook/hubert-base-ls960 --push user/name

`--root` is the folder with Actor_01 to Actor_24, once: many copies hold all of them twice, one copy inside the other.
Anything else that a run can be told goes behind the flags as key=value. To leave out one actor at a time, and to learn
the strength of the emotion as well:

    python recipes/ravdess.py --root RAVDESS --out runs/ravdess-24 protocol=speaker tasks=emotion,gender,intensity

One pair of files has identical sound in the release itself; the run says so. Both are of actor 07, so they never stand
on two sides of a fold.
"""

from __future__ import annotations

from collections.abc import Sequence

from undertone.recipes.corpus_recipe import run_recipe


def main(words: Sequence[str] | None = None) -> None:
    """Run the recipe with these words, or with those of the command line."""
    run_recipe("ravdess", __doc__, "folder with Actor_01 to Actor_24", words)


if __name__ == "__main__":
    main()
