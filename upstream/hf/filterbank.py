"""The input of wav2vec2-BERT (Barrault et al., 2023): normalised Kaldi filterbanks, two frames stacked into one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.audio_utils import mel_filter_bank, window_function

from undertone.upstream.types import length_mask

WINDOW = 400  # samples
HOP = 160  # samples
STACK = 2  # filterbank frames in an input frame
FFT_SIZE = 512
SAMPLE_RATE = 16_000  # Hz
FLOOR = 1.192092955078125e-07  # float32's epsilon, as Kaldi
EXPECTED = {"stride": STACK, "num_mel_bins": 80}  # of preprocessor_config.json


def filterbank_frames(lengths: Tensor) -> Tensor:
    """(B,) samples -> (B,) filterbank frames."""
    return torch.div(lengths - WINDOW, HOP, rounding_mode="floor") + 1


def stacked_frames(model: Any, lengths: Tensor) -> Tensor:
    """(B,) samples -> (B,) hidden states: two filterbank frames each, an odd last one dropped."""
    return torch.div(filterbank_frames(lengths), STACK, rounding_mode="floor")


@lru_cache
def constants(num_mels: int) -> tuple[np.ndarray, np.ndarray]:
    """The mel filters (257, M) and Kaldi's window (400,), float64."""
    filters = mel_filter_bank(
        FFT_SIZE // 2 + 1,
        num_mels,
        20.0,
        SAMPLE_RATE / 2,
        SAMPLE_RATE,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    return filters, window_function(WINDOW, "povey", periodic=False)


def log_mel(samples: Tensor, num_mels: int) -> Tensor:
    """As `SeamlessM4TFeatureExtractor`: Kaldi's filterbank without dither of samples scaled to 16 bit.

    Args:
        samples: (B, N), N >= 400.
        num_mels: M.

    Returns:
        (B, F, M) natural logs, one frame every 160 samples; float64 inside, rounded to float32 where transformers does.
    """
    filters, window = (torch.from_numpy(array).to(samples.device) for array in constants(num_mels))
    frames = samples.double().unfold(1, WINDOW, HOP) * 2**15  # (B, F, 400)
    frames = frames - frames.mean(2, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], 2)
    spectrum = torch.fft.rfft((frames - 0.97 * before) * window, FFT_SIZE).to(torch.complex64)  # (B, F, 257)
    power = torch.view_as_real(spectrum).double().square().sum(3)  # (B, F, 257)
    return (power @ filters).clamp(min=FLOOR).log().float()  # (B, F, M)


def filterbank_inputs(config: PreTrainedConfig, samples: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """(B, N) samples -> `input_features` (B, T, 2 M) float32, zero in the padding, and `attention_mask` (B, T)."""
    return normalized_pairs(log_mel(samples, config.feature_projection_input_dim // STACK), lengths)


def normalized_pairs(logs: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """(B, F, M) log energies and (B,) samples -> what `filterbank_inputs` returns.

    Each mel band has zero mean and unit (sample) variance over the utterance's own filterbank frames, an odd last one
    too. Both are taken in float64; transformers takes them in float32 and is off by up to 1e-5.
    """
    logs, counts = logs.double(), filterbank_frames(lengths)  # (B, F, M), (B,)
    mask = length_mask(counts, logs.shape[1])[..., None]  # (B, F, 1)
    mean = (logs * mask).sum(1, keepdim=True) / counts[:, None, None]  # (B, 1, M)
    centred = (logs - mean) * mask  # (B, F, M)
    variance = centred.square().sum(1, keepdim=True) / (counts[:, None, None] - 1)  # (B, 1, M)
    features = (centred / torch.sqrt(variance + 1e-7)).float()
    num_frames = features.shape[1] // STACK
    features = features[:, : num_frames * STACK].reshape(features.shape[0], num_frames, -1)  # (B, T, 2 M)
    return {"input_features": features, "attention_mask": length_mask(counts // STACK, num_frames).long()}
