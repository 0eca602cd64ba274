"""Augmentation of audio: noise at a signal-to-noise ratio, speed, level, reverberation; and noises to add.

Everything random comes from a generator that the caller gives.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torchaudio
from torch import Tensor

from undertone.audio.read import read_audio

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff")
MAX_RATIO = 100  # a speed is rounded to so many parts: the resampler's filter grows with the ratio's terms


def add_noise(wave: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    """Speech with noise, the ratio of their mean powers over the whole clip being `snr_db`; silence stays silent.

    Args:
        wave: (N,) float32.
        noise: (N,) float32.
        snr_db: signal-to-noise ratio, dB.

    Raises:
        ValueError: the noise is silent.
    """
    if not noise.any():
        raise ValueError("Silent noise cannot be added at any ratio. Give another noise file.")
    noisy: Tensor = torchaudio.functional.add_noise(wave, noise, torch.tensor(snr_db, device=wave.device))
    return noisy


def white_noise(length: int, generator: torch.Generator) -> Tensor:
    """(length,) Gaussian noise of power 1."""
    return torch.randn(length, generator=generator)


def noise_of_length(noise: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """(length,) of a noise, from a place drawn at random; a shorter noise starts again where it ends."""
    start = int(torch.randint(len(noise), (1,), generator=generator))
    if start + length <= len(noise):
        return noise[start : start + length]
    repeats = math.ceil((start + length) / len(noise))
    return noise.repeat(repeats)[start : start + length]


def noise_files(folder: str | Path) -> list[Path]:
    """The audio files in a folder, sorted, or the one file."""
    folder = Path(folder).expanduser()
    if folder.is_file():
        return [folder]
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)


def read_noises(folder: str | Path, sample_rate: int) -> dict[str, Tensor]:
    """{file name: (N,) samples} of every audio file in a folder, or of the one file.

    Raises:
        ValueError: there is none; or one that cannot be read or is silent.
    """
    folder, paths = Path(folder).expanduser(), noise_files(folder)
    if not paths:
        raise ValueError(
            f"No noise in {folder}: give a folder with audio files ({', '.join(SUFFIXES)}), or an audio file."
        )
    noises = {path.name: read_audio(path, sample_rate) for path in paths}
    if silent := [name for name, noise in noises.items() if not noise.any()]:
        raise ValueError(f"The noise {silent[0]} in {folder} is silent. Take it out.")
    return noises


def change_speed(wave: Tensor, factor: float, sample_rate: int) -> Tensor:
    """(N,) -> (about N / factor,): faster and higher for a factor above 1, as a tape that runs faster.

    Ko et al., Interspeech 2015.
    """
    faster: Tensor
    faster, _ = torchaudio.functional.speed(wave, sample_rate, round(factor * MAX_RATIO) / MAX_RATIO)
    return faster


def change_level(wave: Tensor, gain_db: float) -> Tensor:
    """(N,) louder by `gain_db` decibels; nothing is clipped."""
    louder: Tensor = torchaudio.functional.gain(wave, gain_db)
    return louder


def room_response(reverb_s: float, sample_rate: int, generator: torch.Generator) -> Tensor:
    """A simulated room: the direct sound, then noise that falls by 60 dB in `reverb_s` seconds (Polack 1988).

    The tail has the energy of the direct sound, as some metres from the speaker in a living room.
    """
    time = torch.arange(1, max(2, round(reverb_s * sample_rate))) / sample_rate  # (R,)
    tail = torch.randn(len(time), generator=generator) * 10 ** (-3 * time / reverb_s)
    return torch.cat([torch.ones(1), tail / tail.norm()])


def reverberate(wave: Tensor, response: Tensor) -> Tensor:
    """(N,) in a room with this impulse response, of the same length and mean power."""
    reverberant: Tensor = torchaudio.functional.fftconvolve(wave, response.to(wave.device))[: len(wave)]
    power = reverberant.square().mean()
    return reverberant * (wave.square().mean() / power).sqrt() if power > 0 else reverberant
