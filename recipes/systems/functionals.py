"""Hand-crafted features: functionals of an utterance and a linear support vector machine.

The survey's row "MFCC and prosody with machine learning" names no paper; this is our definition of it. 415 functionals
(see the upstream `functionals`), standardised by the training speakers, every class counting alike, C chosen by inner
folds over a fold's training speakers, for each task, then fitted on all of them. Values (`tasks=arousal,valence`) are
fitted by ridge regression.

`upstream=compare2016` or `upstream=egemaps` is the openSMILE baseline of the ComParE challenges, chosen and fitted in
the same way; it needs the extra `opensmile`. `head=logistic` gives probabilities.
"""

SYSTEM = {
    "upstream": "functionals",
    "head": "svm",
    "class_weights": "balanced",
    "sweep": {"head.C": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)},
}
