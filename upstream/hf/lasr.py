"""The input of LASR, the conformer of google/medasr: natural-log mel energies, not normalised over the utterance."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import LasrFeatureExtractor, PreTrainedConfig

from undertone.upstream.hf.filterbank import filterbank_frames
from undertone.upstream.spectra import FFT, HOP, WINDOW, cut_frames, power_spectrum
from undertone.upstream.types import length_mask

FLOOR = 1e-5  # of an energy before its logarithm
EXPECTED = {  # of preprocessor_config.json
    "feature_extractor_type": "LasrFeatureExtractor",
    **{"sampling_rate": 16_000, "win_length": WINDOW, "hop_length": HOP, "n_fft": FFT},
}


def subsampled_frames(model: Any, lengths: Tensor) -> Tensor:
    """(B,) samples -> (B,) hidden states: what two convolutions without padding leave of the filterbank frames."""
    frames: Tensor = model._get_subsampling_output_length(filterbank_frames(lengths))
    return frames


@lru_cache
def _constants(num_mels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The window (400,) and the mel filters (257, M), float64."""
    window = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64)
    return window.to(device), LasrFeatureExtractor(feature_size=num_mels).mel_filters.to(device)


def _log_mel(samples: Tensor, window: Tensor, filters: Tensor) -> Tensor:
    """(B, N) -> (B, F, M)."""
    power = power_spectrum(cut_frames(samples.double(), WINDOW, HOP) * window, FFT)  # (B, F, 257)
    return (power @ filters).clamp(min=FLOOR).log().float()  # (B, F, M)


def lasr_inputs(config: PreTrainedConfig, samples: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """(B, N >= 400) samples -> `input_features` (B, F, M) float32 and `attention_mask` (B, F).

    As `LasrFeatureExtractor`, in float64: frames of 25 ms every 10 ms, without dither, pre-emphasis or centring. A
    frame is real if all of its samples are, so that no frame of a clip depends on what stands behind it.
    """
    constants = _constants(config.num_mel_bins, samples.device)
    tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    whole = tracing or not samples.is_cpu  # a CPU is faster with one clip, whose spectra stay in its cache
    features = torch.cat([_log_mel(part, *constants) for part in ((samples,) if whole else samples.split(1))])
    mask = length_mask(filterbank_frames(lengths), features.shape[1])  # (B, F)
    return {"input_features": features, "attention_mask": mask.long()}
