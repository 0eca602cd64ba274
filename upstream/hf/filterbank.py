"""The input of wav2vec2-BERT (Barrault et al., 2023): normalised Kaldi filterbanks, two frames stacked into one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.audio_utils import mel_filter_bank, window_function

from undertone.upstream.spectra import FFT, HOP, WINDOW, LogMel, cut_frames, is_exporting
from undertone.upstream.types import length_mask

STACK = 2  # filterbank frames in an input frame
SAMPLE_RATE = 16_000  # Hz
EXPECTED = {"stride": STACK, "num_mel_bins": 80}  # of preprocessor_config.json


def filterbank_frames(lengths: Tensor) -> Tensor:
    """(B,) samples -> (B,) filterbank frames."""
    return torch.div(lengths - WINDOW, HOP, rounding_mode="floor") + 1


def stacked_frames(model: Any, lengths: Tensor) -> Tensor:
    """(B,) samples -> (B,) hidden states: two filterbank frames each, an odd last one dropped."""
    return torch.div(filterbank_frames(lengths), STACK, rounding_mode="floor")


class _RoundedLogMel(LogMel):
    """In float64, the spectrum rounded where `SeamlessM4TFeatureExtractor` rounds it; ONNX has no complex numbers."""

    def power(self, frames: Tensor) -> Tensor:
        if is_exporting():
            return super().power(frames)
        spectrum = torch.fft.rfft(frames, FFT).to(torch.complex64)  # (B, F, 257)
        return torch.view_as_real(spectrum).double().square().sum(3)


@lru_cache
def _log_mel(num_mels: int, device: torch.device) -> LogMel:
    filters = mel_filter_bank(
        FFT // 2 + 1, num_mels, 20.0, SAMPLE_RATE / 2, SAMPLE_RATE, mel_scale="kaldi", triangularize_in_mel_space=True
    )  # (257, M)
    window = window_function(WINDOW, "povey", periodic=False)
    return _RoundedLogMel(torch.from_numpy(filters).to(device), torch.from_numpy(window).to(device))


def filterbank_inputs(config: PreTrainedConfig, samples: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """(B, N >= 400) samples -> `input_features` (B, T, 2 M) float32, zero in the padding, and `attention_mask` (B, T).

    As `SeamlessM4TFeatureExtractor`: Kaldi's filterbank of samples scaled to 16 bit, normalised, in pairs of frames.
    Each mel band has zero mean and unit (sample) variance over the utterance's own filterbank frames, an odd last one
    too. Both are taken in float64; transformers takes them in float32 and is off by up to 1e-5.
    """
    log_mel = _log_mel(config.feature_projection_input_dim // STACK, samples.device)
    logs = log_mel(cut_frames(samples.double(), WINDOW, HOP) * 2**15).float().double()  # (B, F, M), as transformers
    counts = filterbank_frames(lengths)  # (B,)
    mask = length_mask(counts, logs.shape[1])[..., None]  # (B, F, 1)
    mean = (logs * mask).sum(1, keepdim=True) / counts[:, None, None]  # (B, 1, M)
    centred = (logs - mean) * mask  # (B, F, M)
    variance = centred.square().sum(1, keepdim=True) / (counts[:, None, None] - 1)  # (B, 1, M)
    features = (centred / torch.sqrt(variance + 1e-7)).float()
    num_frames = features.shape[1] // STACK
    features = features[:, : num_frames * STACK].reshape(features.shape[0], num_frames, -1)  # (B, T, 2 M)
    return {"input_features": features, "attention_mask": length_mask(counts // STACK, num_frames).long()}
