"""What of an upstream torch's ONNX exporter can follow."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any

from undertone.hub import acoustic_graph, spectral_graph
from undertone.hub.functionals_graph import FunctionalsGraph
from undertone.upstream.acoustic._opensmile import OpenSmile
from undertone.upstream.acoustic.contours import Contours
from undertone.upstream.acoustic.fbank import Fbank
from undertone.upstream.acoustic.functionals import Functionals
from undertone.upstream.acoustic.jiang2022 import Jiang2022
from undertone.upstream.acoustic.logmel import Logmel
from undertone.upstream.acoustic.mfcc import Mfcc
from undertone.upstream.acoustic.spectrogram import Spectrogram
from undertone.upstream.acoustic.waveform import Waveform
from undertone.upstream.base import Upstream
from undertone.upstream.filterbank import filterbank_inputs
from undertone.upstream.hf import HFUpstream
from undertone.upstream.whisper import whisper_inputs

ACOUSTIC: dict[type[Upstream], type[acoustic_graph.AcousticGraph]] = {
    Fbank: acoustic_graph.FbankGraph,
    Functionals: FunctionalsGraph,
    Jiang2022: acoustic_graph.Jiang2022Graph,
    Logmel: acoustic_graph.LogmelGraph,
    Mfcc: acoustic_graph.MfccGraph,
    Spectrogram: acoustic_graph.SpectrogramGraph,
    Waveform: acoustic_graph.WaveformGraph,
}
NO_GRAPH: dict[type[Upstream], str] = {
    OpenSmile: "openSMILE's own program computes its features",
    Contours: "the logarithm of a matrix is among its features, an operation that ONNX has not",
}
INPUTS: dict[Callable[..., Any], Callable[..., Any]] = {
    filterbank_inputs: spectral_graph.filterbank_inputs,
    whisper_inputs: spectral_graph.whisper_inputs,
}


def upstream_graph(upstream: Upstream) -> tuple[Any, int]:
    """A module with `frame_lengths` and `states` as `HFUpstream` has them, and the samples of its first frame.

    Raises:
        ValueError: the upstream computes in other code than PyTorch's, or in a class from outside undertone.
    """
    if isinstance(upstream, HFUpstream):
        graph, inputs = copy(upstream), upstream.family.inputs
        graph.family = replace(upstream.family, inputs=INPUTS.get(inputs, inputs))
        return graph, upstream.receptive_field
    if type(upstream) in ACOUSTIC:
        front_end: Any = upstream
        return ACOUSTIC[type(upstream)](front_end), front_end.window
    reasons = (reason for kind, reason in NO_GRAPH.items() if isinstance(upstream, kind))
    reason = next(reasons, "it is code from outside undertone")
    known = ", ".join(sorted(kind.__name__.lower() for kind in ACOUSTIC))
    raise ValueError(
        f"Upstream {upstream.name!r} cannot be exported to ONNX: {reason}, of which no graph can be made. Where "
        f"undertone is installed, `undertone predict` takes the model as it is. What can be exported: {known}, and "
        f"every Hugging Face upstream."
    )
