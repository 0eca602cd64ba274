"""Sound made otherwise, measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile
import torch

from undertone.audio.augment import (
    add_noise,
    change_level,
    change_speed,
    noise_of_length,
    read_noises,
    reverberate,
    room_response,
    white_noise,
)

RATE = 16_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tone(hz: float, seconds: float = 1.0, level: float = 0.3) -> torch.Tensor:
    return level * torch.sin(2 * math.pi * hz * torch.arange(int(seconds * RATE)) / RATE)


def decibels(signal: torch.Tensor, noise: torch.Tensor) -> float:
    return 10 * math.log10(float(signal.double().square().mean() / noise.double().square().mean()))


@pytest.mark.parametrize("snr", [-5.0, 0.0, 5.0, 10.0, 20.0, 40.0])
def test_noise_comes_at_the_ratio_that_was_asked_for(snr: float) -> None:
    speech = torch.cat([tone(200), torch.zeros(RATE // 2)])
    for noise in (white_noise(len(speech), generator()), 1e-3 * tone(50, 1.5)):
        noisy = add_noise(speech, noise, snr)
        assert abs(decibels(speech, noisy - speech) - snr) < 0.1
    assert not add_noise(torch.zeros(100), torch.ones(100), snr).any()
    with pytest.raises(ValueError, match="Silent noise"):
        add_noise(speech, torch.zeros_like(speech), snr)


def test_a_short_noise_starts_again_and_a_long_one_is_cut() -> None:
    noise = torch.arange(5.0)
    found = noise_of_length(noise, 12, generator())
    assert torch.equal(found.diff() % 5, torch.ones(11))
    starts = {int(noise_of_length(noise, 2, generator(seed))[0]) for seed in range(40)}
    assert starts == set(range(5))
    assert torch.equal(noise_of_length(noise, 3, generator(3)), noise_of_length(noise, 3, generator(3)))


def test_speed_changes_length_and_pitch() -> None:
    fast = change_speed(tone(400), 1.1, RATE)
    assert abs(len(fast) - RATE / 1.1) <= 1
    peak = np.fft.rfft(fast.numpy()).__abs__().argmax() * RATE / len(fast)
    assert abs(peak - 440) < 2
    assert torch.equal(change_speed(tone(400), 1.0, RATE), tone(400))


def test_level() -> None:
    wave = tone(300, level=0.8)
    assert decibels(change_level(wave, 6.0), wave) == pytest.approx(6.0, abs=1e-3)


def test_a_room_rings_as_long_as_the_reverberation_time_says() -> None:
    response = room_response(0.5, RATE, generator())
    energy = response[1:].double().square().flip(0).cumsum(0).flip(0)  # Schroeder's backward integral
    level = 10 * torch.log10(energy / energy[0])
    at = [int((level < db).nonzero()[0]) / RATE for db in (-5, -25)]
    assert 3 * (at[1] - at[0]) == pytest.approx(0.5, rel=0.1)
    click = torch.zeros(RATE)
    click[100] = 1.0
    reverberant = reverberate(click, response)
    assert len(reverberant) == RATE and not reverberant[:90].abs().max() > 1e-4
    assert decibels(reverberant, click) == pytest.approx(0.0, abs=1e-3)
    assert reverberant[101:].abs().sum() > 1 and torch.isfinite(reverberate(torch.zeros(50), response)).all()


def test_noises_of_a_folder(tmp_path) -> None:
    with pytest.raises(ValueError, match="No noise in"):
        read_noises(tmp_path, RATE)
    soundfile.write(tmp_path / "hum.wav", tone(50, 0.2).numpy(), RATE)
    soundfile.write(tmp_path / "hiss.FLAC", tone(50, 0.1).numpy(), 8000, format="FLAC")
    (tmp_path / "readme.txt").write_text("no sound")
    noises = read_noises(tmp_path, RATE)
    assert {name: len(noise) for name, noise in noises.items()} == {"hiss.FLAC": 3200, "hum.wav": 3200}
    assert read_noises(tmp_path / "hum.wav", RATE).keys() == {"hum.wav"}
    soundfile.write(tmp_path / "none.wav", np.zeros(100), RATE)
    with pytest.raises(ValueError, match="The noise none.wav in"):
        read_noises(tmp_path, RATE)
