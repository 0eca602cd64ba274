"""A larger set of functionals of our own, and logistic regression: our best system without a pretrained upstream.

The upstream `contours` gives 6,929 numbers an utterance, with torchaudio alone: moments, percentiles and course of
cepstra, spectral shape and voice, the logarithm of their covariance, and what random convolutions over them answer.
They are standardised by the training speakers; every class counts alike; two copies of each training utterance, up to
15 % faster or slower, are learned from besides. C is chosen on dev for each fold, then the head is fitted again on
train and dev. No speaker is normalised by his own speech. All of it was tuned on RAVDESS' dev parts.
"""

from undertone.recipes.ablation import Row

SYSTEM = {
    "upstream": "contours",
    "head": "logistic",
    "class_weights": "balanced",
    "augment": {"speed": 0.15, "share": 1.0, "copies": 2},
    "sweep": {"head.C": (3e-4, 1e-3, 3e-3, 1e-2)},
    "refit_on_dev": True,
}

ABLATION = (
    Row("contours", ()),
    Row("without-copies", ("augment={}",)),
    Row("functionals", ("upstream=functionals",)),
    Row("compare2016", ("upstream=compare2016",)),
    Row("svm", ("head=svm", "sweep.head.C=1e-5,1e-4,1e-3")),
)
