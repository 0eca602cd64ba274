"""RAVDESS speech, six folds of two men and two women each: eight emotions and gender.

    python recipes/ravdess.py --root RAVDESS --upstream facebook/hubert-base-ls960 --push user/name

`--root` is the folder with Actor_01 to Actor_24, once: many copies hold all of them twice, one copy inside the other.
Any other setting follows the flags as key=value. To leave out one actor at a time, and also learn the strength of the
emotion:

    python recipes/ravdess.py --root RAVDESS --out runs/ravdess-24 protocol=speaker tasks=emotion,gender,intensity

One pair of files in the release has identical audio; the run says so. Both are of actor 07, so they are always on the
same side of a fold.

Published, in %:

    EmoBox (Ma 2024, arXiv 2406.07162), Whisper large v3, frozen    75.87 WA    dev shares speakers
    EmoBox, WavLM large, frozen                                     72.22 WA    dev shares speakers
    LSTM with attention (Krasnoproshin 2026, arXiv 2606.03359)      65.17 UAR   TEST-SELECTED: "a maximum"

EmoBox has six folds of four actors, chosen at random; Krasnoproshin's division is by speaker.

Ours (UAR / WA in %, pooled; docs/results.md has every read): --system contours 69.6 / 70.0,
--system functionals --upstream compare2016 58.8 / 59.4, --system functionals 47.7 / 48.7,
mfcc with attention 35.2 / 37.3, fbank with attention 33.7 / 35.8 (both max_epochs=20).
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("ravdess", __doc__, "folder with Actor_01 to Actor_24")
