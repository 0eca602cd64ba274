"""MSP-Podcast, the official split: eight emotions and gender; Development chooses, Test1 scores.

    python recipes/msp_podcast.py --root MSP-PODCAST-Publish-1.12 --upstream microsoft/wavlm-large --push user/name

`--root` is the folder of a release, with Audios and Labels; the results should name the release, as counts and splits
differ. The challenges score macro-F1. Anything else that a run can be told goes behind the flags as key=value:

    corpus.test=test2                 the other official test part, whose speakers are not known
    corpus.labels=4class              angry, happy, neutral, sad
    corpus.speakers=known             without turns of unknown speakers: the run then claims to be speaker-independent
    soft_labels=true                  trains on the fractions of the raters' votes
    tasks=arousal,valence,dominance corpus.labels=all     the dimensions, of all turns

Published, on the *validation* part of an early release, CCC of arousal, valence, dominance (Parthasarathy and Busso):
multitask .791 .469 .735, with the ladder .803 .458 .746. CCC of valence, part and release not in the abstract: .638,
the best of fine-tuned wav2vec 2.0 and HuBERT, without text (Wagner 2022, arXiv 2203.07378). Ours was not run, as the
corpus needs a licence.

EmoBox (Ma 2024, arXiv 2406.07162), the official split of an early release: WA 44.10 % of Whisper large v3, 40.47 % of
WavLM large, both frozen. Not comparable: by its label file, Other and the turns without an agreement are classes.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("msp_podcast", __doc__, "folder of the release, with Audios and Labels")
