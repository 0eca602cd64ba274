"""eNTERFACE'05, five groups of speakers: six emotions.

    python recipes/enterface05.py --root "enterface database" --upstream facebook/wav2vec2-base --push user/name

`--root` has the folders subject 1 to subject 44, with the audio extracted from each video beside it.

Published, WA in %; EmoBox (Ma 2024, arXiv 2406.07162) has Whisper large v3 / WavLM large, frozen. Ours was not run:

    EmoBox, a random quarter of the clips   97.68 / 92.42   SPEAKER-DEPENDENT

No speaker-independent figure was found.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("enterface05", __doc__, "folder with subject 1 to subject 44")
