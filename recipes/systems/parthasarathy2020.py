"""Ladder networks for semi-supervised speech emotion recognition (Parthasarathy & Busso, IEEE TASLP 28, 2020).

ComParE functionals, standardised, two dense layers of 256 with batch norm, arousal, valence and dominance by 1 - CCC;
every layer is reconstructed from a copy with noise of variance 0.3, in speech with and without labels (arXiv
1905.02921; Interspeech 2018, arXiv 1804.10816; noise, costs, denoiser and optimiser are a public replication's).
Published on MSP-Podcast: 3.0 to 3.5 % more CCC than a single task within it, 16.1 to 74.1 % more across corpora.

The paper's systems are this one with other settings: `ladder=false tasks=arousal` is STL, `ladder=false` MTL,
`ladder.first=true` an autoencoder with a head, `tasks=arousal` Ladder+STL, and `--unlabelled DIR` adds speech without
labels. `small` takes our 415 functionals, which need no openSMILE. With `tasks=emotion` it learns classes; the ablation
leaves the rows out whose labels the corpus lacks.

Ours: the features are openSMILE's ComParE 2016, the paper's the set of 2013, and the tasks weigh alike.
"""

from undertone.recipes.systems import Row

SYSTEM = {
    "upstream": "compare2016",
    "head": "dense",
    "head_options": {"hidden_size": 256, "num_layers": 2, "dropout": 0.1},
    "tasks": ("arousal", "valence", "dominance"),
    "ladder": True,
    "ladder_options": {"noise": 0.548, "lambdas": 1.0, "denoiser": "mlp", "detach": False},
    "learning_rate": 5e-5,
    "weight_decay": 0.0,
    "warmup": 0.0,
    "schedule": "constant",
    "batch_size": 128,
    "max_epochs": 100,
    "patience": 100,
}

VARIANTS = {"small": ("upstream=functionals", "head.hidden_size=64")}

_DEV = "MSP-Podcast, dev, CCC: "
_LABELLED = ("unlabelled=null",)
_PLAIN = ("ladder=false", *_LABELLED)
_FIRST = ("ladder.first=true", *_LABELLED)

ABLATION = (
    Row("stl-arousal", (*_PLAIN, "tasks=arousal"), _DEV + "arousal .778"),
    Row("stl-valence", (*_PLAIN, "tasks=valence"), _DEV + "valence .443"),
    Row("stl-dominance", (*_PLAIN, "tasks=dominance"), _DEV + "dominance .722"),
    Row("mtl", _PLAIN, _DEV + "arousal .791, valence .469, dominance .735"),
    Row("autoencoder", _FIRST, _DEV + "arousal .358, valence .136, dominance .305"),
    Row("ladder-stl-arousal", ("tasks=arousal", *_LABELLED), _DEV + "arousal .801"),
    Row("ladder-stl-valence", ("tasks=valence", *_LABELLED), _DEV + "valence .443"),
    Row("ladder-stl-dominance", ("tasks=dominance", *_LABELLED), _DEV + "dominance .742"),
    Row("ladder-mtl", _LABELLED, _DEV + "arousal .803, valence .458, dominance .746"),
    Row("ladder-mtl-unlabelled", needs="unlabelled"),
    *(
        Row(f"{name}-{kind}", (*words, f"tasks={tasks}"), needs="classes")
        for kind, tasks in (("emotion", "emotion"), ("emotion-gender", "emotion,gender"))
        for name, words in (("dense", _PLAIN), ("autoencoder", _FIRST), ("ladder", _LABELLED))
    ),
    Row("ladder-emotion-gender-unlabelled", ("tasks=emotion,gender",), needs="unlabelled"),
)
