"""IEMOCAP, five folds, each leaving one session out: angry, happy (with excited), neutral, sad, and gender.

    python recipes/iemocap.py --root IEMOCAP_full_release --upstream microsoft/wavlm-large --push user/name

`--root` is the folder with Session1 to Session5. Any other setting follows the flags as key=value.
Papers differ in what they call IEMOCAP, so choose explicitly:

    corpus.labels=5class         frustrated as the fifth class; `all` has ten, and the turns without an agreement
    corpus.part=improvised       or scripted; both by default
    protocol=speaker             ten folds, each leaving one speaker out
    protocol=superb              SUPERB's: dev is drawn from the training speakers, and the results say so
    tasks=valence,arousal,dominance corpus.labels=all    the dimensions, of all 10,039 turns

`undertone ablate morais2022 iemocap --root DIR protocol=superb` runs the nine experiments of Morais 2022 as one table.

The results hold the mean over the folds and the pooled value of all turns. SUPERB's number is the mean of WA over its
five folds, of a linear head whose learning rate was chosen for each upstream.

Published, of 5,531 turns of four classes, WA / UA in %; ours was not run, as the corpus needs a licence:

    co-attention (Zou 2022), 5 sessions                          69.80 / 71.05   TEST-SELECTED, by its code
    the same, 10 speakers                                        71.64 / 72.70   TEST-SELECTED
    HuBERT and wav2vec 2.0 with ECAPA (Morais 2022), SUPERB's    77.07 / 77.76   dev shares speakers
    EmoBox, Whisper large v3, frozen (Ma 2024), 5 sessions       72.86 / -       dev shares speakers
    EmoBox, WavLM large, frozen                                  69.07 / -       dev shares speakers
    fine-tuned HuBERT / wav2vec 2.0 (Wang 2021)                  73.01 / -       its best, speaker-independent
    the same                                                     79.58 / -       its best, SPEAKER-DEPENDENT
    wav2vec 2.0 (SpeechBrain's recipe, 2021), random division    78.7 / -        SPEAKER-DEPENDENT; mean of runs 77.0

EmoBox is arXiv 2406.07162, Wang 2021 arXiv 2111.02735. What was read of Wang 2021 and of SpeechBrain does not give the
number of turns.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("iemocap", __doc__, "folder with Session1 to Session5")
