"""EmoDB, ten folds, each leaving one speaker out: seven emotions and gender.

    python recipes/emodb.py --root EmoDB --upstream microsoft/wavlm-base-plus --push user/name

`--root` is the folder of the published wav files. Any other setting follows the flags as
key=value: `python recipes/emodb.py --root EmoDB seed=1 head.hidden_size=256`.

Published, WA in %:

    SVM over functionals, by speaker (Gjoreski 2014)           73; 77 with tuned settings
    the same, ten folds of clips                               86; SPEAKER-DEPENDENT
    EmoBox (Ma 2024, arXiv 2406.07162), its own five folds     92.43 Whisper large v3, 92.67 WavLM large, both frozen;
                                                               SPEAKER-DEPENDENT: the folds share speakers
    listeners, mean of erkennung.txt over the 535 clips        93.5; clips below 80 had been left out, with them 85.2

Gjoreski 2014 names the seven classes in its abstract, not the corpus; they are EmoDB's. It does not say which data its
tuning used.

Ours (UAR / WA in %, pooled; docs/results.md has every read): --system contours 80.9 / 81.1,
--system functionals --upstream compare2016 77.7 / 78.5, --system functionals 70.8 / 71.2, fbank 47.1 / 52.1.
"""

from undertone.recipes.corpus_recipe import run_recipe

if __name__ == "__main__":
    run_recipe("emodb", __doc__, "folder of EmoDB's wav files")
