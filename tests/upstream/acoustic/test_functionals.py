"""One vector an utterance: our own functionals against numbers made another way, openSMILE's against openSMILE."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from undertone.audio.read import read_audio
from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.acoustic.functionals import log_pitch, statistics
from undertone.upstream.spectra import LogMel, cut_frames

RATE = 16_000


def voice(pitch_hz: float, seconds: float = 1.0, level: float = 0.1) -> torch.Tensor:
    """Seven harmonics, each half an octave's energy weaker, with unlike phases."""
    time = torch.arange(int(seconds * RATE)) / RATE
    return sum(level / k * torch.sin(2 * math.pi * pitch_hz * k * time + k * k) for k in range(1, 8))


def pitch(wave: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    octaves, voiced, _ = log_pitch(wave[None], torch.tensor([len(wave)]), torch.hann_window(640))
    return octaves[0], voiced[0]


def vector(name: str, wave: torch.Tensor) -> torch.Tensor:
    states = load_upstream(name)(WaveBatch.collate([wave], RATE)).states
    assert states.shape[:3] == (1, 1, 1)
    return states[0, 0, 0]


def test_statistics_are_numpys() -> None:
    contours = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    chosen = torch.arange(30) % 7 != 3
    found, values = statistics(contours[None], chosen[None])[0], contours[chosen].numpy()
    seconds = (torch.arange(30) * 0.01)[chosen]
    lines = [np.polyfit(seconds.double().numpy(), column, 1)[0] for column in values.T]
    expected = np.stack([values.mean(0), values.std(0), values.min(0), values.max(0), lines])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    padded = torch.cat([contours[None], torch.full((1, 30, 4), 7.0)])  # a batch of two, the second of one frame
    both = statistics(padded, torch.stack([chosen, torch.arange(30) == 4]))
    torch.testing.assert_close(both, torch.stack([found, torch.tensor([7.0, 0, 7, 7, 0])[:, None].expand(5, 4)]))
    one = statistics(contours[None, :1], torch.ones(1, 1, dtype=torch.bool))[0]
    assert torch.equal(one, torch.stack([contours[0], 0 * contours[0], contours[0], contours[0], 0 * contours[0]]))


@pytest.mark.parametrize("pitch_hz", [75.0, 110.0, 163.0, 240.0, 390.0])
def test_the_pitch_of_a_voice(pitch_hz: float) -> None:
    octaves, voiced = pitch(voice(pitch_hz) + 0.01 * torch.randn(RATE, generator=torch.Generator().manual_seed(0)))
    assert voiced.float().mean() > 0.95
    found = 60 * 2 ** octaves[voiced]
    assert ((found / pitch_hz - 1).abs() < 0.03).float().mean() > 0.95  # a lag is up to 2.5 % of a period


def test_noise_has_no_pitch() -> None:
    _, voiced = pitch(torch.randn(RATE, generator=torch.Generator().manual_seed(0)))
    assert not voiced.any()


def test_what_each_number_is() -> None:
    """The contours' columns: 40 cepstra, 40 deltas, level, crossings, pitch; statistics one after the other."""
    wave = voice(150.0)
    numbers = vector("functionals", wave).reshape(5, 83)
    cepstra = (
        LogMel.kaldi(64)(cut_frames(wave[None], 400, 160))[0] @ torchaudio.functional.create_dct(40, 64, "ortho") / 16
    )
    torch.testing.assert_close(numbers[0, :40], cepstra.mean(0))
    torch.testing.assert_close(numbers[3, :40], cepstra.amax(0))
    deltas = 5 * torchaudio.functional.compute_deltas(cepstra.T).T
    torch.testing.assert_close(numbers[1, 40:80], deltas.std(0, correction=0))
    louder = vector("functionals", 2 * wave).reshape(5, 83) - numbers
    assert louder[0, 80] == pytest.approx(math.log(2) / 2, abs=1e-4) and louder[0, 81:].abs().max() < 1e-4
    assert numbers[0, 82] == pytest.approx(math.log2(150 / 60), abs=0.03)
    rising = torch.cat([voice(120.0, 0.5), voice(180.0, 0.5)])
    assert vector("functionals", rising).reshape(5, 83)[4, 82] > 0.5  # octaves a second


def test_short_and_silent_sound_is_finite() -> None:
    for wave in (torch.zeros(RATE), torch.zeros(1), voice(100.0)[:200]):
        assert torch.isfinite(vector("functionals", wave)).all()


@pytest.mark.data
def test_real_speech_is_of_the_order_of_one(data: Path) -> None:
    for path in sorted((data / "librispeech").glob("*.flac"))[:3]:
        numbers = vector("functionals", read_audio(path, RATE))
        assert 0.3 < numbers.std() < 2 and numbers.abs().max() < 20


@pytest.mark.parametrize(("name", "feature_set"), [("egemaps", "eGeMAPSv02"), ("compare2016", "ComParE_2016")])
def test_opensmile_gives_its_own_numbers(name: str, feature_set: str) -> None:
    opensmile = pytest.importorskip("opensmile", reason="needs the extra opensmile")
    wave = voice(150.0)
    smile = opensmile.Smile(opensmile.FeatureSet[feature_set], opensmile.FeatureLevel.Functionals)
    expected = smile(wave.numpy(), RATE).reshape(-1)
    np.testing.assert_array_equal(vector(name, wave).numpy(), expected)
    assert len(expected) == load_upstream(name).hidden_size
    assert torch.isfinite(vector(name, torch.zeros(10))).all()


def test_without_opensmile_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(ValueError, match=r"Upstream 'egemaps' needs openSMILE.*pip install 'undertone\[opensmile\]'"):
        load_upstream("egemaps")
