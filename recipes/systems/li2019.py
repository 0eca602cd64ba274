"""CNN, BLSTM and self-attention on the spectrogram, emotion and gender learned together.

Li, Zhao & Kawahara, "Improved End-to-End Speech Emotion Recognition Using Self Attention Mechanism and Multitask
Learning", Interspeech 2019. Their code was never released and their inner sizes are unknown: the graph (spectrogram ->
CNN -> BLSTM -> self-attention -> two softmaxes) and the loss, emotion + gender with weights 1 and 1, are theirs; window
(Hamming, 40 ms every 10 ms, up to 4 kHz), convolutions, BLSTM 128, training and whole utterances in place of 7.5 s are
ours. Their self-attention is a pooling here, by weights of the frames; `head.self_attention=1`, a row of the ablation,
lets frames attend to each other before it. `ssl` puts a pretrained upstream in place of spectrogram and CNN: `--system
li2019:ssl --upstream HUB_ID`.

Their IEMOCAP is the improvised part (`corpus.part=improvised`). Public replications reach 52-56 % WA, but with a wrong
gender for half of the utterances and an attention over the batch: 81.6 is neither refuted nor reproduced.

`small` sees up to 8 kHz, with deltas and accelerations as two more maps. Chosen on the dev part of RAVDESS' first fold:
UAR 48 to 53 in the last epochs up to 4 kHz without deltas, 52 to 55 with them, 59 up to 8 kHz; a weight of 0.3 for
gender changed nothing.
"""

from undertone.recipes.systems import Row

SYSTEM = {
    "upstream": "spectrogram",
    "upstream_options": {"window_ms": 40, "shape": "hamming", "max_hz": 4000},
    "head": "crnn",
    "head_options": {"channels": [64, 64, 64, 64], "pooling": "attention"},
    "tasks": ("emotion", "gender"),
    "learning_rate": 1e-3,
    "weight_decay": 1e-5,
    "batch_size": 16,
    "max_epochs": 30,
    "patience": 20,
    "average_top": 3,
}

VARIANTS = {
    "small": (
        "upstream_options={window_ms: 40, shape: hamming, max_hz: 8000, deltas: true}",
        "head.num_maps=3",
        "head.channels=[16,16,32,32]",
        "head.kernel_size=3",
        "head.strides=[[2,4],[2,2],[1,2],[1,2]]",
        "head.hidden_size=64",
    ),
    "ssl": ("upstream=facebook/wav2vec2-base", "upstream_options={}", "head.channels=[]"),
}

_IMPROVISED = "IEMOCAP improvised, 5 folds: "

ABLATION = (
    Row("attention-gender", (), _IMPROVISED + "WA 81.6, UAR 82.8 (memory; +7.7 WA confirmed)"),
    Row("self-attention", ("head.self_attention=1",)),
    Row("attention", ("task_weights.gender=0",), _IMPROVISED + "WA ~70.5, UAR ~72.6 (second hand)"),
    Row("mean-gender", ("head.pooling=mean",)),
    Row("mean", ("head.pooling=mean", "task_weights.gender=0")),
)
