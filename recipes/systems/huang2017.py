"""Log-mel energies, CNN, LSTM and convolutional attention, for speech in noise.

Huang & Narayanan, "Deep Convolutional Recurrent Neural Network with Attention Mechanism for Robust Speech Emotion
Recognition", ICME 2017, on eNTERFACE'05. The abstract names the modules and that each was measured; mel bands, sizes
and optimiser are unknown, so these are ours, as is the reading of "convolutional attention": a frame's score is a
convolution over its neighbours (`head.attention_kernel` frames of 40 ms; 1 is pointwise attention).

`undertone robustness RUN --only noise` is its test in noise: UAR by signal-to-noise ratio,
on the models trained on clean speech.
"""

from undertone.recipes.systems import Row
from undertone.recipes.systems.crnn import SYSTEM as CRNN
from undertone.recipes.systems.crnn import VARIANTS as VARIANTS  # its sizes

SYSTEM = CRNN | {
    "head_options": {"num_maps": 3, "channels": [64, 64, 128, 128], "pooling": "convolutional", "attention_kernel": 9}
}

ABLATION = (
    Row("cnn", ("head.num_layers=0", "head.pooling=mean")),
    Row("cnn-lstm-last", ("head.pooling=last",)),
    Row("cnn-lstm-mean", ("head.pooling=mean",)),
    Row("cnn-lstm-pointwise", ("head.attention_kernel=1",)),
    Row("cnn-lstm-convolutional", (), "eNTERFACE'05: UAR +4.62 over the state of the art (confirmed), 91.67 (memory-)"),
)
