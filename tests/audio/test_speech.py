"""Silence, noise, tones and short clips are no speech; the detector computes what Silero's own does."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from undertone.audio import speech
from undertone.audio.read import read_audio
from undertone.audio.speech import SpeechDetector, detector, is_speech_corpus, no_speech

RATE = 16_000
TIMES = np.arange(2 * RATE) / RATE


def wave(samples):
    return torch.from_numpy(np.asarray(samples, np.float32))


def test_the_detector_is_sileros():
    """Its TorchScript model, of other weights than the safetensors, as the reference of what is computed."""
    path = Path(find_spec("silero_vad").submodule_search_locations[0]) / "data" / "silero_vad.jit"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = torch.jit.load(str(path))
    names = {
        "stft.forward_basis_buffer": "stft_conv.weight",
        "decoder.decoder.2.weight": "final_conv.weight",
        "decoder.decoder.2.bias": "final_conv.bias",
    }
    state = {}
    for name, value in reference.state_dict().items():
        part = name.removeprefix("_model.")
        if name == part:
            continue  # the model for 8 kHz
        kind = part.split(".")[-1]
        if part.startswith("encoder."):
            part = f"conv{int(part.split('.')[1]) + 1}.{kind}"
        elif part.startswith("decoder.rnn."):
            part = f"lstm.{kind}_l0"
        state[names.get(part, part)] = value.float()
    ours = SpeechDetector().eval()
    ours.load_state_dict(state)
    samples = wave(0.3 * np.sin(2 * np.pi * 150 * TIMES * (1 + 0.2 * np.sin(20 * TIMES))))[: RATE + 77]
    np.testing.assert_allclose(ours(samples), reference.audio_forward(samples[None], RATE)[0].detach(), atol=1e-5)


NO_SPEECH = {
    "silence": (np.zeros(RATE), "silence"),
    "noise": (0.1 * np.random.default_rng(0).standard_normal(RATE), "no speech found"),
    "tone": (0.5 * np.sin(2 * np.pi * 440 * TIMES), "no speech found"),
    "chord": (0.2 * sum(np.sin(2 * np.pi * f * TIMES) for f in (220, 277, 330)), "no speech found"),
    "short": (0.1 * np.ones(3199), "too short: 0.20 s of audio; at least 0.2 s"),
    "one": (np.ones(1), "too short: 0.00 s"),
}


@pytest.mark.parametrize("name", NO_SPEECH)
def test_what_is_no_speech_has_a_reason(name):
    samples, reason = NO_SPEECH[name]
    assert no_speech(wave(samples), RATE).startswith(reason)


@pytest.mark.data
@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_emotional_speech_is_speech(data, rate):
    files = [*sorted((data / "emodb" / "wav").glob("*.wav"))[::90], *sorted(data.glob("ravdess/Actor_0[12]/*"))[::40]]
    assert len(files) > 8
    assert [no_speech(read_audio(file, rate), rate) for file in files] == [None] * len(files)


@pytest.mark.data
def test_a_shout_is_speech(data):
    """At its own speed the detector gives it 0.27."""
    assert no_speech(read_audio(data / "ravdess" / "Actor_06" / "03-01-05-02-02-02-06.flac", RATE), RATE) is None


@pytest.mark.data
def test_the_detector_knows_speech_and_not_noise(data):
    files = sorted((data / "emodb" / "wav").glob("*.wav"))[::100]
    assert is_speech_corpus([read_audio(file, RATE) for file in files], RATE)
    assert not is_speech_corpus([wave(samples) for samples, _ in NO_SPEECH.values()], RATE)
    assert not is_speech_corpus([], RATE)


def test_the_detector_is_loaded_once_and_leaves_torchs_threads():
    before = torch.get_num_threads()
    assert detector() is detector() and torch.get_num_threads() == before


def test_the_detector_knows_a_kind_of_audio_by_more_than_half_of_the_clips(monkeypatch):
    asked = []

    def probability(wave, rate):
        asked.append(float(wave))
        return asked[-1]

    monkeypatch.setattr(speech, "speech_probability", probability)
    for probabilities, known, needed in (
        ([1, 1, 0, 1, 0], True, 4),
        ([0, 0, 1, 0, 1], False, 4),
        ([1, 0, 1, 0], False, 4),
        ([0.98] * 20, False, 11),
    ):
        asked.clear()
        assert is_speech_corpus(list(torch.tensor(probabilities, dtype=torch.float64)), RATE) == known
        assert len(asked) == needed
