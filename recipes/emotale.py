"""EmoTale, 18 folds, each leaving one speaker out in both languages: five emotions and gender.

    python recipes/emotale.py --root EmoTale --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has wav, annotations.csv and speaker_info.csv. `corpus.language=danish` or `english` takes one language alone;
`tasks=arousal,valence,dominance` learns the means of the raters.
"""

from __future__ import annotations

from collections.abc import Sequence

from undertone.recipes.corpus_recipe import run_recipe


def main(words: Sequence[str] | None = None) -> None:
    """Run the recipe with these words, or with those of the command line."""
    run_recipe("emotale", __doc__, "folder with wav and the two tables", words)


if __name__ == "__main__":
    main()
