"""A convolutional recurrent network on the raw waveform, for arousal and valence over time.

Trigeorgis et al., "Adieu features? End-to-end speech emotion recognition using a deep convolutional recurrent network",
ICASSP 2016, on RECOLA; the sizes are those of a public reimplementation. The 500 ms convolution goes through the FFT.
For time-continuous values: `tasks=series.arousal,series.valence`; `regression_loss=mse` is the objective it is compared
with. On a corpus of labelled utterances the same network gives the mean of its frames one output. `postprocess` is
chosen on dev, and for values over time alone. Whole utterances in place of 6 s, AdamW and its rate are ours. The
ablation's MFCC row has the system's own BLSTM at either size; of classes there is one objective, the cross-entropy. On
RAVDESS `small` stays at chance for ten epochs before it learns: hence no early stop in it.
"""

from undertone.recipes.systems import Row

SYSTEM = {
    "upstream": "waveform",
    "head": "trigeorgis2016",
    "head_options": {"filters": 40, "num_maps": 2, "hidden_size": 128, "noise": 0.1},
    "store_dtype": "float32",
    "regression_loss": "ccc",
    "postprocess": ("median", "centring", "scaling", "delay"),
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "batch_size": 16,
    "max_epochs": 60,
    "patience": 20,
}

VARIANTS = {
    "small": (
        "head.filters=8",
        "head.hidden_size=32",
        "weight_decay=0.01",
        "warmup=0.05",
        "patience=60",
        "average_top=3",
    )
}

_RECOLA = "RECOLA test (dev), CCC: "

ABLATION = (
    Row("ccc", (), _RECOLA + "arousal .686 (.741), valence .261 (.325) (memory)", needs="values"),
    Row("mse", ("regression_loss=mse",), _RECOLA + "arousal .684 (.728), valence .249 (.312) (memory)", needs="values"),
    Row("cross-entropy", (), needs="classes"),
    Row(
        "mfcc-blstm",
        ("upstream=mfcc", "head=crnn", "head_options={}", "head.channels=[]", "head.num_layers=2", "head.dropout=0.5"),
        variants={"small": ("head.hidden_size=32",)},
    ),
)
