"""CNN on log-mel energies, BLSTM, mean over the frames: row [6] of the survey, whose paper cannot be identified.

So the definition is ours: 64 log-mel bands (25 ms every 10 ms), four convolutions 5x5 with batch norm and ReLU (4
frames and 16 bands become one), BLSTM of 128 units a direction, mean, one hidden layer. `small` is a quarter
of it with convolutions 3x3, for CPUs.
"""

from undertone.recipes.systems import Row

SYSTEM = {
    "upstream": "logmel",
    "head": "crnn",
    "tasks": ("emotion",),
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "batch_size": 32,
    "max_epochs": 60,
    "patience": 20,
}

VARIANTS = {"small": ("head.channels=[16,16,32,32]", "head.kernel_size=3", "head.hidden_size=64")}

ABLATION = (
    Row("cnn-blstm"),
    Row("cnn", ("head.num_layers=0",)),
    Row("blstm", ("head.channels=[]",)),
)
