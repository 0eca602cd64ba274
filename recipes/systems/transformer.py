"""CNN on log-mel energies, self-attention between frames, attention pooling: the CRNN without recurrence.

The survey describes self-attention as frames that attend to each other; its systems only weigh frames in a pooling.
Here two transformer layers with relative positions stand where `crnn` has its BLSTM. The sizes are ours; `small`
is that of `crnn`. The head `transformer` does the same on any upstream.

The settings are those of `crnn`. On the dev part of RAVDESS' first fold, `small`, UAR 69; 65 with five speed-changed
copies of each utterance and 59 with masks, in the same 30 epochs.
"""

from undertone.recipes.systems import Row
from undertone.recipes.systems.crnn import SYSTEM as CRNN
from undertone.recipes.systems.crnn import VARIANTS as VARIANTS  # its sizes

SYSTEM = CRNN | {"head_options": {"num_maps": 3, "num_layers": 0, "self_attention": 2, "pooling": "attention"}}

ABLATION = (
    Row("self-attention"),
    Row("pooling-alone", ("head.self_attention=0",)),
    Row("mean", ("head.pooling=mean",)),
    Row("blstm-self-attention", ("head.num_layers=1",)),
)
