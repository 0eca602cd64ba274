"""CREMA-D, five groups of speakers: six emotions and gender.

    python recipes/crema_d.py --root CREMA-D --upstream facebook/wav2vec2-base --push user/name

`--root` is the repository, or its folder AudioWAV. By default the label is the emotion that the
actor was asked for. What listeners perceived in the voice often differs:

    python recipes/crema_d.py --root CREMA-D --out runs/crema_d-perceived corpus.labels=perceived

uses the majority of the listeners, and `soft_labels=true` with it trains on the distribution of their votes. Both
need `processedResults/tabulatedVotes.csv` of the repository. `protocol=split` is audb's division into 56, 18 and 17
speakers. The results name the labels that were used.

Published, WA in %; EmoBox (Ma 2024, arXiv 2406.07162) has Whisper large v3 / WavLM large, frozen. Ours was not run:

    EmoBox, intended label, a random quarter of the clips   76.48 / 74.32   SPEAKER-DEPENDENT
    listeners, of audio alone, intended label (Cao 2014)    40.9

No speaker-independent figure was found.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("crema_d", __doc__, "CREMA-D's repository, or its folder AudioWAV")
