"""JL corpus, four folds, each leaving one speaker out: five primary emotions and gender.

    python recipes/jl_corpus.py --root "Raw JL corpus" --upstream facebook/wav2vec2-base --push user/name

`--root` has the wav files. `corpus.labels=all` has all ten emotions; say which.

No published number is quoted. Ours was not run.
"""

from functools import partial

from undertone.recipes.corpus_recipe import run_recipe

main = partial(run_recipe, "jl_corpus", __doc__, "folder of the wav files")

if __name__ == "__main__":
    main()
