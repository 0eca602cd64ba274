"""MFCCs, the spectrogram and a fine-tuned wav2vec 2.0, joined by co-attention.

Zou, Si, Chen, Rajan & Chng, "Speech Emotion Recognition with Co-Attention based Multi-level Acoustic Information",
ICASSP 2022 (arXiv 2203.15326), on IEMOCAP. Graph, sizes, optimiser and rates are those of their code: segments of 3 s,
40 MFCCs, 40 ms of spectrogram up to 4 kHz, weights of the frames through a ReLU, no softmax. Their code chooses the
checkpoint on the test speaker, and pads short segments in front for one stream and behind for the others; here dev
chooses, whose speakers test does not have, and every stream is padded behind. Ours too: segments are cut from the
frames and not from the sound, no ImageNet weights for AlexNet, no pre-emphasis of the sound of wav2vec 2.0, Kaldi's
mel bands. `free` leaves clips whole: the weights come from a query and keys, through a softmax.

A stream is left out by not giving its upstream, as the rows of the ablation do. Their own table of these was not found.
"""

from undertone.recipes.systems import Row

_SSL = "facebook/wav2vec2-base-960h"
_MFCC = {"num_mels": 64, "coefficients": 40, "deltas": False}
_SPECTROGRAM = {"window_ms": 40, "shape": "hamming", "max_hz": 4000}

SYSTEM = {
    "upstream": f"ssl={_SSL}+mfcc+spectrogram",
    "streams": {
        "ssl": {"mode": "finetune", "layers": 12},  # the last
        "mfcc": {"options": _MFCC},
        "spectrogram": {"options": _SPECTROGRAM},
    },
    "head": "zou2022",
    "head_options": {
        "segments": {"ssl": 149, "mfcc": 298, "spectrogram": 297},  # the frames of 3 s
        "channels": [64, 192, 384, 256, 256],
        "resize": 256,
        "hidden_size": 256,
        "size": 128,
    },
    "tasks": ("emotion",),
    "learning_rate": 1e-5,
    "upstream_learning_rate": 1e-5,
    "weight_decay": 0.01,
    "warmup": 0.0,
    "schedule": "constant",
    "batch_size": 64,
    "max_epochs": 100,
    "patience": 8,
}

VARIANTS = {"free": ("head.segments={}", "head.resize=0", "head.weights=softmax")}

_CONCAT = ("head.fusion=concat",)

ABLATION = (
    Row("mfcc", _CONCAT, streams=("mfcc",)),
    Row("spectrogram", _CONCAT, streams=("spectrogram",)),
    Row("ssl", _CONCAT, streams=("ssl",)),
    Row("mfcc-spectrogram", _CONCAT, streams=("mfcc", "spectrogram")),
    Row("concat", _CONCAT),
    Row(
        "co-attention",
        ("head.weights=relu",),  # also of `free`
        "IEMOCAP, 5 sessions: WA 69.80, UAR 71.05; 10 speakers: WA 71.64, UAR 72.70; both chosen on test, by its code",
    ),
    Row("co-attention-softmax", ("head.weights=softmax",)),
)
