"""ShEMO, five groups of speakers: six emotions and gender.

    python recipes/shemo.py --root ShEMO --upstream facebook/wav2vec2-xls-r-300m --push user/name

`--root` has female and male. Fearful has 38 clips: look at its recall before the mean. Papers often leave it out.

Published, WA in %; EmoBox (Ma 2024, arXiv 2406.07162) has Whisper large v3 / WavLM large, frozen. Ours was not run:

    EmoBox, a random quarter of the clips         89.55 / 87.13   SPEAKER-DEPENDENT
    SVM (Mohamad Nezami 2019, arXiv 1906.01155)   58.2   its metric and division are not in the abstract

No figure that is known to be speaker-independent was found.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("shemo", __doc__, "folder with female and male")
