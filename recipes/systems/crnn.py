"""CNN on log-mel energies, BLSTM, mean over the frames: row [6] of the survey, whose paper cannot be identified.

So the definition is ours: 80 log-mel bands (25 ms every 10 ms), their deltas and accelerations as three maps, four
convolutions 5x5 with batch norm and ReLU (4 frames and 16 bands become one), BLSTM of 128 units a direction, mean, one
hidden layer. `small` is a quarter of it with convolutions 3x3, for CPUs.

Chosen on the dev part of RAVDESS' first fold, `small`, 25 epochs: UAR 51 by log-mel energies alone and batches of 32,
53 by batches of 16, 57 by deltas, 59 by both; 47 with the speed changed at every update and 43 with masks, which would
need more epochs.
"""

from undertone.recipes.systems import Row

SYSTEM = {
    "upstream": "fbank",
    "head": "crnn",
    "head_options": {"num_maps": 3},
    "tasks": ("emotion",),
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "batch_size": 16,
    "max_epochs": 30,
    "patience": 20,
    "average_top": 3,
}

VARIANTS = {"small": ("head.channels=[16,16,32,32]", "head.kernel_size=3", "head.hidden_size=64")}

ABLATION = (
    Row("cnn-blstm"),
    Row("cnn", ("head.num_layers=0",)),
    Row("blstm", ("head.channels=[]",)),
)
