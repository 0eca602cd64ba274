"""Audio -> hidden states: any Hugging Face speech model or a classic acoustic front-end, behind one contract."""

from undertone.upstream.base import Upstream
from undertone.upstream.load import build_upstream, load_upstream
from undertone.upstream.types import Frames, HiddenStates, WaveBatch

__all__ = ["Frames", "HiddenStates", "Upstream", "WaveBatch", "build_upstream", "load_upstream"]
