"""Whisper's encoder (Radford et al., 2022), fed as transformers feeds it: log-mel energies of 30 s, zero-padded."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.audio_utils import mel_filter_bank

from undertone.upstream.spectra import cut_frames, is_exporting, power_spectrum

WINDOW = 400  # samples
HOP = 160  # samples between mel frames
STRIDE = 2  # mel frames between hidden states: the two convolutions' strides multiplied
SAMPLE_RATE = 16_000  # Hz
EXPECTED = {"n_fft": WINDOW, "hop_length": HOP, "dither": 0.0}  # of preprocessor_config.json
# A checkpoint names them `model.encoder.*` or `encoder.*`; only the encoder is made, the decoder's are never read.
ENCODER_KEYS = {r"^(model\.)?encoder\.": ""}


def max_seconds(config: PreTrainedConfig) -> float:
    """What the encoder's positions hold: 30 s."""
    return float(config.max_source_positions * STRIDE * HOP / SAMPLE_RATE)


def own_frames(model: Any, lengths: Tensor) -> Tensor:
    """(B,) samples -> (B,) hidden states that the clip reaches: one every 320 samples, rounded up."""
    return model._get_feat_extract_output_lengths((lengths + HOP - 1) // HOP)


@lru_cache
def _constants(num_mels: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The window (400,) and the mel filters (M, 201)."""
    filters = mel_filter_bank(1 + WINDOW // 2, num_mels, 0.0, 8000.0, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
    window = torch.hann_window(WINDOW, device=device).to(dtype)
    return window, torch.from_numpy(filters.T).to(device, dtype)


def whisper_inputs(config: PreTrainedConfig, samples: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """(B, N) samples, zero in the padding -> `input_features` (B, M, 3000) float32, whatever N.

    As `WhisperFeatureExtractor`: base-10 log of the mel energies, at most 8 below the clip's own maximum.
    """
    total, half = config.max_source_positions * STRIDE * HOP, WINDOW // 2
    samples = samples.double() if is_exporting() else samples.float()
    silence = samples.new_zeros(1, total).expand(samples.shape[0], -1)
    samples = torch.cat([samples, silence], 1)[:, :total]  # (B, 480000)
    samples = torch.cat([samples[:, 1 : half + 1].flip(1), samples, samples[:, -half - 1 : -1].flip(1)], 1)
    window, filters = _constants(config.num_mel_bins, samples.device, samples.dtype)
    power = power_spectrum(cut_frames(samples, WINDOW, HOP)[:, :-1] * window, WINDOW)  # (B, 3000, 201)
    logs = (filters @ power.transpose(1, 2).contiguous()).clamp(min=1e-10).log10()  # (B, M, 3000)
    features = (torch.maximum(logs, logs.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
    return {"input_features": features.float()}
