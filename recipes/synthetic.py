"""The synthetic corpus, four groups of speakers: a run that needs no data, to try an upstream or a head of your own.

Usage: python recipes/synthetic.py --upstream fbank head=linear max_epochs=10
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("synthetic", __doc__, None, protocol="groups", num_folds=4)
