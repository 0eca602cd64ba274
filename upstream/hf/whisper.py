"""Whisper's encoder (Radford et al., 2022), fed as transformers feeds it: log-mel energies of 30 s, zero-padded."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.audio_utils import mel_filter_bank

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
    """(B,) samples -> (B,) hidden states that the clip reaches: one every 320 samples, a begun one counts."""
    frames: Tensor = model._get_feat_extract_output_lengths((lengths + HOP - 1) // HOP)
    return frames


@lru_cache
def mel_filters(num_mels: int) -> np.ndarray:
    """(201, M), from a power spectrum to mel energies."""
    return mel_filter_bank(1 + WINDOW // 2, num_mels, 0.0, 8000.0, SAMPLE_RATE, norm="slaney", mel_scale="slaney")


def log_mel(samples: Tensor, num_mels: int) -> Tensor:
    """As `WhisperFeatureExtractor`: base-10 log of the mel energies, at most 8 below the clip's own maximum.

    Args:
        samples: (B, N).
        num_mels: M.

    Returns:
        (B, M, N // 160) float32, scaled by (x + 4) / 4.
    """
    window = torch.hann_window(WINDOW, device=samples.device)
    spectrum = torch.stft(samples.float(), WINDOW, HOP, window=window, return_complex=True)  # (B, F, N // 160 + 1)
    power = (spectrum[..., :-1].abs() ** 2).contiguous()  # (B, F, N // 160)
    filters = torch.from_numpy(mel_filters(num_mels)).to(samples.device, torch.float32)  # (F, M)
    return compressed(filters.T @ power)


def compressed(energies: Tensor) -> Tensor:
    """(B, M, F) mel energies -> their logarithms as `log_mel` scales them."""
    logs = energies.clamp(min=1e-10).log10()  # (B, M, F)
    return (torch.maximum(logs, logs.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def whisper_inputs(config: PreTrainedConfig, samples: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """(B, N) samples, zero in the padding -> `input_features` (B, M, 3000), whatever N."""
    total = config.max_source_positions * STRIDE * HOP
    samples = torch.nn.functional.pad(samples[:, :total], (0, max(0, total - samples.shape[1])))  # (B, 480000)
    return {"input_features": log_mel(samples, config.num_mel_bins)}
