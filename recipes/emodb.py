"""EmoDB, ten folds, each leaving one speaker out: seven emotions and gender.

    python recipes/emodb.py --root EmoDB --upstream microsoft/wavlm-base-plus --push user/name

`--root` is the folder of the published wav files. Any other setting follows the flags as
key=value: `python recipes/emodb.py --root EmoDB seed=1 head.hidden_size=256`.
"""

from __future__ import annotations

from collections.abc import Sequence

from undertone.recipes.corpus_recipe import run_recipe


def main(words: Sequence[str] | None = None) -> None:
    """Run the recipe with these words, or with those of the command line."""
    run_recipe("emodb", __doc__, "folder of EmoDB's wav files", words)


if __name__ == "__main__":
    main()
