"""Speech or not: silence, noise, tones, music and clips that are too short get a reason in place of an emotion.

The detector is Silero's (https://github.com/snakers4/silero-vad, MIT): the weights are those of the wheel `silero-vad`,
the network is written here again in PyTorch, so that a clip is computed at once and not in a Python loop over
frames of 32 ms. `silero_vad` itself is not imported: that would set the number of torch's threads to 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from undertone.audio.read import resampled

SHORTEST = 0.2  # seconds; a syllable takes about as much
SILENT = 1e-4  # peak, -80 dB: less than 4 steps of 16 bits
SPEECH = 0.5  # probability, and
SPOKEN = 0.25  # seconds: the defaults of Silero
SPEEDS = (1.0, 0.8)  # shouts are too high for the detector, and lower when played slower; see benchmarks/nonspeech.py
CERTAIN = 0.99  # probability, of nearly every clip of acted or read speech
RATE = 16_000  # Hz
WEIGHTS = "silero_vad_16k.safetensors"  # in the folder `data` of the package silero_vad
_FRAME, _CONTEXT = 512, 64  # samples
_AT_ONCE = 2000  # frames, a minute: what the memory holds of a long clip


class SpeechDetector(nn.Module):
    """Silero's voice activity detector, version 6, for 16 kHz: a probability of speech for each 32 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm = nn.LSTM(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    @torch.inference_mode()
    def forward(self, wave: Tensor) -> Tensor:
        """(N,) float32 samples at 16 kHz, N >= 1 -> (T,) probabilities, T = N / 512 rounded up."""
        count = -(-len(wave) // _FRAME)
        wave = nn.functional.pad(wave, (_CONTEXT, count * _FRAME - len(wave)))
        frames = wave.unfold(0, _CONTEXT + _FRAME, _FRAME)  # (T, 576)
        encoded = torch.cat([self._encode(part) for part in frames.split(_AT_ONCE)])  # (T, 128)
        states, _ = self.lstm(encoded)  # (T, 128)
        probabilities: Tensor = self.final_conv(states.relu()[..., None]).sigmoid()[:, 0, 0]  # (T,)
        return probabilities

    def _encode(self, frames: Tensor) -> Tensor:
        """(T, 576) samples -> (T, 128)."""
        spectrum = self.stft_conv(nn.functional.pad(frames[:, None], (0, 64), "reflect"))  # (T, 258, 4)
        x = (spectrum[:, :129].square() + spectrum[:, 129:].square()).sqrt()  # (T, 129, 4)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = conv(x).relu()  # ends as (T, 128, 1)
        encoded: Tensor = x[:, :, 0]
        return encoded


@lru_cache(maxsize=1)
def detector() -> SpeechDetector:
    """The detector with Silero's weights, loaded once.

    Raises:
        ValueError: `silero-vad`, or its weights, are not installed.
    """
    package = find_spec("silero_vad")
    folders = (package.submodule_search_locations if package is not None else None) or []
    path = next((file for folder in folders if (file := Path(folder) / "data" / WEIGHTS).is_file()), None)
    if path is None:
        raise ValueError(
            f"The weights of the speech detector are missing ({WEIGHTS}). Install them with `pip install "
            f"silero-vad`, or predict without it: --any-sound, any_sound=True."
        )
    state = {_name(name): value for name, value in load_file(path).items()}
    model = SpeechDetector().eval()
    model.load_state_dict(state)
    return model


def _name(name: str) -> str:
    """Of a weight of Silero's LSTM cell, the name in an `nn.LSTM`."""
    return name.replace("lstm_cell.", "lstm.") + "_l0" * name.startswith("lstm_cell.")


def no_speech(wave: Tensor, rate: int) -> str | None:
    """Why a clip gets no prediction: it is too short, silent, or holds no speech. None: it is speech.

    Args:
        wave: (N,) float32 samples, on the CPU.
        rate: Hz.
    """
    seconds = len(wave) / rate
    if seconds < SHORTEST:
        return f"too short: {seconds:.2f} s of audio; at least {SHORTEST:g} s are needed"
    if float(wave.abs().max()) < SILENT:
        return "silence"
    found = speech_probability(wave, rate)
    return None if found >= SPEECH else f"no speech found (probability {found:.2f})"


def speech_probability(wave: Tensor, rate: int) -> float:
    """The probability of speech that `SPOKEN` seconds of the clip reach, in one piece or not; the mean over `SPEEDS`.

    Args:
        wave: (N,) float32 samples, N >= 1, on the CPU.
        rate: Hz.
    """
    found = [_reached(resampled(wave, rate, round(RATE / speed)), SPOKEN / speed) for speed in SPEEDS]
    return sum(found) / len(found)


def _reached(wave: Tensor, seconds: float) -> float:
    """The probability that `seconds` of the wave reach, (N,) samples taken as if at 16 kHz."""
    probabilities = detector()(wave)  # (T,)
    frames = min(len(probabilities), round(seconds * RATE / _FRAME))
    return float(probabilities.topk(frames).values[-1])


def is_speech_corpus(waves: Sequence[Tensor], rate: int) -> bool:
    """Whether the detector knows this kind of audio: it is certain of more than half of the clips.

    It stops at the clip that decides.
    """
    votes = Counter[bool]()
    for wave in waves:
        certain = speech_probability(wave, rate) >= CERTAIN
        votes[certain] += 1
        if votes[certain] > len(waves) / 2:
            return certain
    return False
