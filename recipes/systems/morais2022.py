"""Two fine-tuned upstreams, ECAPA-TDNN on their frames side by side, the five best checkpoints averaged.

Morais, Hoory, Zhu, Gat, Damasceno & Aronowitz, "Speech Emotion Recognition using Self-Supervised Features", ICASSP 2022
(arXiv 2202.03896), on IEMOCAP with SUPERB's division (`protocol=superb`): wav2vec 2.0 Robust and HuBERT, the mean or an
ECAPA-TDNN over the frames, joined early (features side by side) or late (embeddings side by side), and the weights of
the five best evaluations on dev averaged. They fine-tune each upstream with the mean first and then train the ECAPA on
what it gives; here upstreams and head are trained together, with two learning rates. Which HuBERT, optimiser, rates and
batch were not found: the large model, AdamW at 1e-5 and 1e-3, and 16 clips an update are ours, as is that the last
layer alone is used. `base` has the small models, for smaller GPUs. Their BERT on transcripts is no part of this.

    undertone ablate morais2022 iemocap --root DIR protocol=superb

runs their nine experiments, published scores beside ours: theirs are means over the five folds.
"""

from undertone.recipes.systems import Row

SYSTEM = {
    "upstream": "w2v2=facebook/wav2vec2-large-robust+hubert=facebook/hubert-large-ll60k",
    "mode": "finetune",
    "layers": 24,  # the last
    "head": "ecapa",
    "fusion": "concat",
    "tasks": ("emotion",),
    "average_top": 5,
    "upstream_learning_rate": 1e-5,
    "learning_rate": 1e-3,
    "batch_size": 16,
    "max_epochs": 30,
    "patience": 10,
    "select_by": "wa",
}

VARIANTS = {"base": ("upstream=w2v2=facebook/wav2vec2-base+hubert=facebook/hubert-base-ls960", "layers=12")}

_IEMOCAP = "IEMOCAP, SUPERB's folds: "
_ALONE = ("fusion=null",)
_MEAN = (*_ALONE, "head=linear", "head_options={}")
_BEST = (*_MEAN, "average_top=1")

ABLATION = (
    Row("1 w2v2-mean", _BEST, _IEMOCAP + "WA 74.09, UAR 74.56", streams=("w2v2",)),
    Row("2 hubert-mean", _BEST, _IEMOCAP + "WA 72.99, UAR 73.45", streams=("hubert",)),
    Row("3 w2v2-mean-averaged", _MEAN, _IEMOCAP + "WA 76.47, UAR 76.86", streams=("w2v2",)),
    Row("4 hubert-mean-averaged", _MEAN, _IEMOCAP + "WA 75.20, UAR 75.80", streams=("hubert",)),
    Row("5 w2v2-ecapa", _ALONE, _IEMOCAP + "WA 76.58, UAR 77.36", streams=("w2v2",)),
    Row("6 hubert-ecapa", _ALONE, _IEMOCAP + "WA 75.56, UAR 77.04", streams=("hubert",)),
    Row("7 early-fusion", (), _IEMOCAP + "WA 77.07, UAR 77.76"),
    Row("8 late-fusion", ("fusion=late",), _IEMOCAP + "WA 76.78, UAR 77.52"),
    Row(
        "9 fbank-ecapa",
        ("upstream=fbank", "streams={}", *_ALONE, "mode=frozen", "layers=sum"),
        _IEMOCAP + "WA 56.52, UAR 57.60",
    ),
)
