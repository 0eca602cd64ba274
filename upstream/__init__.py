"""Audio -> hidden states: any Hugging Face speech model or a classic acoustic front-end, behind one contract.

Importing it makes convolutions on a GPU exact: torch's default rounds their float32 inputs to 10 bits (TF32), and a
recording's hidden states would depend on what shares its batch. It also keeps attention of half precision from cuDNN,
which makes a plan, for up to half a second, whenever a batch has a new shape (modelscope/FunASR#3704, pytorch#162073):
padded recordings hardly ever give one shape twice.
"""

import torch

from undertone.upstream.base import Upstream
from undertone.upstream.load import build_upstream, load_upstream
from undertone.upstream.types import Frames, HiddenStates, WaveBatch

__all__ = ["Frames", "HiddenStates", "Upstream", "WaveBatch", "build_upstream", "load_upstream"]

torch.backends.cudnn.allow_tf32 = False
for _operation in ("conv", "rnn"):  # else torch.backends.fp32_precision decides; by name, as torch's stubs lack them
    getattr(torch.backends.cudnn, _operation).fp32_precision = "ieee"
torch.backends.cuda.enable_cudnn_sdp(False)
