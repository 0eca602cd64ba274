"""RAVDESS speech, six folds of two men and two women each: eight emotions and gender.

    python recipes/ravdess.py --root RAVDESS --upstream facebook/hubert-base-ls960 --push user/name

`--root` is the folder with Actor_01 to Actor_24, once: many copies hold all of them twice, one copy inside the other.
Any other setting follows the flags as key=value. To leave out one actor at a time, and also learn the strength of the
emotion:

    python recipes/ravdess.py --root RAVDESS --out runs/ravdess-24 protocol=speaker tasks=emotion,gender,intensity

One pair of files in the release has identical audio; the run says so. Both are of actor 07, so they are always on the
same side of a fold.

No published number is quoted.

Ours (UAR / WA in %, pooled; docs/results.md has every read): --system contours 69.5 / 69.9 (before its C
was chosen by inner folds), mfcc with attention 35.2 / 37.3, fbank with attention 33.7 / 35.8 (both max_epochs=20).
"""

from functools import partial

from undertone.recipes.corpus_recipe import run_recipe

main = partial(run_recipe, "ravdess", __doc__, "folder with Actor_01 to Actor_24")

if __name__ == "__main__":
    main()
