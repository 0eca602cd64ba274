"""Sound and faces over time: a network on the raw waveform, a fine-tuned ResNet-50 on the video, an LSTM on both.

Tzirakis, Trigeorgis, Nicolaou, Schuller & Zafeiriou, "End-to-End Multimodal Emotion Recognition using Deep Neural
Networks", IEEE JSTSP 11(8), 2017 (arXiv 1704.08619), on RECOLA; sizes, batch and rate are those of their code,
sequences of 6 s (`corpus.segment=6`). Each of sound and video is trained alone first, with an LSTM of its own, and then
starts the training of both. There is no attention in it, though surveys say so; the row `both-attention` has some.

For time-continuous values: `tasks=series.arousal,series.valence`; on labelled utterances the mean of the frames gives
one output. `postprocess` is chosen on dev, and for values over time alone. Faces are cut out where a table has `boxes`;
else the middle of each picture is taken, resized to 96 x 96 pixels. Ours: AdamW without decay, ImageNet's weights and
running statistics for the ResNet, torch's LSTM (theirs has peepholes), no random crops or colours. `frozen` leaves the
ResNet as it is: its features are stored once, which a CPU can do.
"""

from undertone.recipes.systems import Row

SYSTEM = {
    "upstream": "waveform+video=microsoft/resnet-50",
    "streams": {"video": {"mode": "finetune"}},
    "head": "tzirakis2017",
    "head_options": {"filters": 40, "num_maps": 4, "hidden_size": 256},
    "alone_first": True,
    "store_dtype": "float32",
    "regression_loss": "ccc",
    "postprocess": ("median", "centring", "scaling", "delay"),
    "learning_rate": 1e-4,
    "upstream_learning_rate": 1e-4,
    "weight_decay": 0.0,
    "warmup": 0.0,
    "schedule": "constant",
    "batch_size": 2,
    "max_epochs": 50,
    "patience": 10,
}

VARIANTS = {"frozen": ("streams.video.mode=frozen",)}

_RECOLA = "RECOLA test (dev), CCC: "
_AT_ONCE = ("alone_first=false",)

ABLATION = (
    Row(
        "audio",
        _AT_ONCE,
        _RECOLA + "arousal .715 (.786 memory), valence .369 (.428) (memory)",
        streams=("waveform",),
    ),
    Row(
        "video",
        _AT_ONCE,
        _RECOLA + "arousal .435 (.371) (memory), valence .620 (.637 memory)",
        needs="video",
        streams=("video",),
    ),
    Row("both", (), _RECOLA + "arousal .714 (.731), valence .612 (.502) (memory)", needs="video"),
    Row("both-at-once", _AT_ONCE, needs="video"),
    Row("both-attention", ("head.fusion=attention",), needs="video"),
)
