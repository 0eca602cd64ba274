"""Codecs, bands and levels: what they let through, and what they take away."""

from __future__ import annotations

import math

import pytest
import torch

from undertone.audio.channel import CODECS, band_limited, clipped_level, through_codec


def tones(*hertz: float) -> torch.Tensor:
    time = torch.arange(16000) / 16000
    return sum(torch.sin(2 * math.pi * hz * time) for hz in hertz) / (4 * len(hertz))


def power(wave: torch.Tensor, hertz: float) -> float:
    """Of the DFT at a whole number of Hz, of one second."""
    return float(torch.fft.rfft(wave.double())[round(hertz)].abs().square())


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_keeps_speech_and_changes_the_samples(name: str) -> None:
    wave = tones(500, 1500, 7000)
    sent = through_codec(wave, 16000, CODECS[name])
    assert len(sent) == len(wave) and sent.dtype == torch.float32
    assert not torch.equal(sent, wave)
    for hertz in (500, 1500):
        assert 0.3 < power(sent, hertz) / power(wave, hertz) < 3, name
    if CODECS[name].sample_rate == 8000:
        assert power(sent, 7000) < 1e-3 * power(wave, 7000)


def test_a_smaller_bit_rate_is_worse() -> None:
    wave = torch.randn(16000, generator=torch.Generator().manual_seed(0)) / 10
    spectra = [torch.fft.rfft(through_codec(wave, 16000, CODECS[f"Opus, {rate} kbit/s"])).abs() for rate in (16, 8)]
    errors = [float((spectrum - torch.fft.rfft(wave).abs()).square().mean()) for spectrum in spectra]
    assert errors[0] < errors[1]


def test_nothing_is_left_outside_a_band() -> None:
    limited = band_limited(tones(100, 1000, 5000), 16000, 300, 3400)
    assert power(limited, 100) < 1e-6 and power(limited, 5000) < 1e-6
    assert torch.allclose(limited, tones(1000) / 3, atol=1e-3)


def test_a_level_clips_at_full_scale() -> None:
    wave = torch.tensor([0.05, -0.5, 0.2])
    assert torch.allclose(clipped_level(wave, 20), torch.tensor([0.5, -1.0, 1.0]))
    assert torch.allclose(clipped_level(wave, -20), wave / 10)
