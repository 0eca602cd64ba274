"""CRNN-MA: parallel CNN and BLSTM with multiple attentions and attention fusion.

Jiang et al., "Convolutional-Recurrent Neural Networks With Multiple Attention Mechanisms for Speech Emotion
Recognition", IEEE TCDS 14(4), 2022; sizes, features, optimiser and 200 epochs are those of the authors' code, whose
graph cannot run as released. Its scores were not found. Ours: no ImageNet weights for the CNN, utterances of any
length in the BLSTM, dev and not test selects. `variable` leaves the pictures as long as they are. `small` trains as
`crnn` does, 30 epochs at a rate that falls to 0: UAR 61 on the dev part of RAVDESS' first fold.
"""

from undertone.recipes.systems import Row

SYSTEM = {
    "upstream": "jiang2022",
    "head": "jiang2022",
    "head_options": {
        "spectral_size": 192,
        "num_maps": 3,
        "channels": [96, 256, 384, 384, 256],
        "attention_size": 1024,
        "hidden_size": 512,
        "resize": 227,
        "dropout": 0.3,
    },
    "tasks": ("emotion",),
    "learning_rate": 1e-4,
    "weight_decay": 0.0,
    "warmup": 0.0,
    "schedule": "constant",
    "batch_size": 64,
    "max_epochs": 200,
    "patience": 40,
}

VARIANTS = {
    "small": (
        "head.channels=[16,32,48,48,32]",
        "head.attention_size=128",
        "head.hidden_size=64",
        "head.resize=96",
        "learning_rate=1e-3",
        "weight_decay=0.01",
        "warmup=0.1",
        "schedule=linear",
        "batch_size=16",
        "max_epochs=30",
        "patience=20",
        "average_top=3",
    ),
    "variable": ("head.resize=0",),
}

ABLATION = (
    Row("cnn", ("head.branches=cnn", "head.attention=false")),
    Row("lstm", ("head.branches=lstm", "head.attention=false")),
    Row("cnn-attention", ("head.branches=cnn",)),
    Row("lstm-attention", ("head.branches=lstm",)),
    Row("both-concat", ("head.fusion=concat",)),
    Row("both-attention-fusion"),
)
