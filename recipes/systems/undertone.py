"""A network on log-mel energies and a linear model of many statistics, averaged; `ssl` is for a pretrained upstream.

Without a pretrained upstream. Two models that err differently: the network of `transformer:small`, which learns its
features, and the logistic regression of `contours`, whose 6,929 numbers an utterance are given. Each is trained alone,
since together the regression, which knows the training utterances by heart at once, would leave nothing to learn; then
their log probabilities are averaged (`--head average`). Chosen on RAVDESS' dev parts: the network counts a fifth, whose
probabilities are too sure of themselves; balanced classes are worth 0.4 points in the regression alone and nothing in
the average. C is chosen by inner folds over the training speakers, for each fold and task; dev says how many updates
the network makes, and then both learn from train and dev. The speed-changed copies of `contours` were worth 0.3 points
and take two thirds of its time; they are left out. Dev promised 1 point more than the regression alone. On test
it is level with `contours`, 80.1 and 80.9 on EmoDB, 70.2 and 69.6 on RAVDESS: `contours`, which is cheaper, is still
the one to take.

`ssl` is for a pretrained upstream: `--system undertone:ssl --upstream HUB_ID`. A learned sum of its layers, since
emotion is best read from the middle ones; attentive statistics, mean and deviation of the frames that matter; gender
beside emotion, which costs one linear layer (`tasks=emotion,gender,arousal,valence` where a corpus has values); the
average of the three checkpoints that are best on dev, a better guess than the best one where dev has two speakers.
`mode=lora` adapts the upstream. It runs and is not scored here.
"""

import json

from undertone.recipes.systems import Row, load_system

TRANSFORMER = load_system("transformer:small")
REGRESSION = {"head": "logistic", "C": [1e-3, 3e-3, 1e-2, 3e-2]}

SYSTEM = TRANSFORMER | {
    "upstream": "fbank+contours",
    "head": "average",
    "head_options": {
        "heads": {"fbank": {"head": "crnn", **TRANSFORMER["head_options"], "weight": 0.2}, "contours": REGRESSION}
    },
    "refit_on_dev": True,
}

VARIANTS = {
    "ssl": (
        "upstream=microsoft/wavlm-base-plus",
        "head=attention",
        "head_options={}",
        "head.pooling=attentive_statistics",
        "tasks=",
        "batch_size=32",
        "refit_on_dev=false",
    ),
}

ABLATION = (
    Row("both"),
    Row("network", ("upstream=fbank", "head=crnn", f"head_options={json.dumps(TRANSFORMER['head_options'])}")),
    Row("regression", ("upstream=contours", "head=logistic", "head_options={}", "sweep.head.C=1e-3,3e-3,1e-2,3e-2")),
)
