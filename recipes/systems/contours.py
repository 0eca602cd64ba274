"""A larger set of functionals of our own, and logistic regression, for studio recordings.

The upstream `contours` gives 6,929 numbers an utterance, with torchaudio alone: moments, percentiles and course of
cepstra, spectral shape and voice, the logarithm of their covariance, and the responses of random convolutions over
them. They are standardised by the training speakers; every class counts alike; two copies of each training utterance,
up to 15 % faster or slower, are trained on as well. C is chosen by inner folds over a fold's training speakers, for
each task, then the head is fitted on all of them. Values (`tasks=arousal,valence`) are fitted by ridge regression.
Speakers are not normalised. All but the way to choose C was tuned on RAVDESS' dev parts. For recordings made
elsewhere take `undertone`.
"""

from undertone.recipes.systems import Row

SYSTEM = {
    "upstream": "contours",
    "head": "logistic",
    "class_weights": "balanced",
    "augment": {"speed": 0.15, "share": 1.0, "copies": 2},
    "sweep": {"head.C": (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)},
}

ABLATION = (
    Row("contours", ()),
    Row("without-copies", ("augment={}",)),
    Row("functionals", ("upstream=functionals",)),
    Row("compare2016", ("upstream=compare2016",)),
    Row("svm", ("head=svm", "sweep.head.C=1e-5,1e-4,1e-3")),
)
