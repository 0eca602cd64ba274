"""The large set of functionals: contours and statistics against scipy's, NumPy's and known sounds."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from undertone.audio.read import read_audio
from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.acoustic._spectral_shape import spectral_shape
from undertone.upstream.acoustic._statistics import (
    DILATIONS,
    NUM_KERNELS,
    NUM_RESPONSES,
    WIDTH,
    _kernels,
    course,
    kernel_responses,
    log_covariance,
    moments,
    percentiles,
    stretches,
)
from undertone.upstream.acoustic._voice import voice

RATE = 16_000
PINNED = ((-0.05382075, 0.02638515, 0.07503697), (0.01522146, 0.00391857, -0.03902196))  # some taps of kernels


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tone(hz: float, seconds: float = 1.0, level: float = 0.1) -> torch.Tensor:
    return level * torch.sin(2 * math.pi * hz * torch.arange(int(seconds * RATE)) / RATE)


def buzz(pitch_hz: float, seconds: float = 1.0, level: float = 0.1) -> torch.Tensor:
    """Seven harmonics, each weaker than the one before, with unlike phases."""
    time = torch.arange(int(seconds * RATE)) / RATE
    return sum(level / k * torch.sin(2 * math.pi * pitch_hz * k * time + k * k) for k in range(1, 8))


def vector(wave: torch.Tensor) -> torch.Tensor:
    states = load_upstream("contours")(WaveBatch.collate([wave], RATE)).states
    assert states.shape[:3] == (1, 1, 1)
    return states[0, 0, 0]


# ---- statistics


def test_moments_are_scipys() -> None:
    contours = noise(80, 3).exp()
    contours[0, 2] += 100  # one so far out that skewness and kurtosis stop at their bounds
    values = contours.double().numpy()
    shape = [stats.skew(values).clip(-5, 5), stats.kurtosis(values, fisher=False).clip(0, 20)]
    assert shape[0][2] == 5 and shape[1][2] == 20 and shape[0][0] < 5
    expected = [values.mean(0), values.std(0), *shape]
    np.testing.assert_allclose(moments(contours), np.concatenate(expected), rtol=1e-4)
    assert torch.equal(moments(torch.ones(5, 2)), torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0]))


def test_percentiles_are_numpys() -> None:
    contours = noise(57, 4)
    expected = np.percentile(contours.numpy(), [1, 5, 25, 50, 75, 95, 99], axis=0)
    np.testing.assert_allclose(percentiles(contours), expected.reshape(-1), atol=1e-5)


def test_the_course_is_numpys_parabola() -> None:
    contours = noise(60, 4).cumsum(0)
    time, values = np.linspace(-1, 1, 60), contours.double().numpy()
    curvature, slope, level = fitted = np.polyfit(time, values, 2)
    residual = (values - np.vander(time, 3) @ fitted).std(0)
    steps = np.diff(values, axis=0)
    rises = [column[column > 0].mean() for column in steps.T]
    falls = [column[column < 0].mean() for column in steps.T]
    above = values > values.mean(0)
    crossings = (above[1:] != above[:-1]).sum(0) / 60
    expected = [slope, curvature, residual, rises, falls, np.abs(steps).mean(0), crossings]
    np.testing.assert_allclose(course(contours), np.concatenate(expected), atol=1e-4)
    assert level.shape == (4,) and not course(contours[:1]).any()


def test_the_logarithm_of_the_covariance_is_scipys() -> None:
    contours = noise(50, 6) @ noise(6, 6, seed=1)
    matrix = linalg.logm(np.cov(contours.double().numpy().T, bias=True) + 0.01 * np.eye(6))
    found = log_covariance(contours).numpy()
    assert found.shape == (21,)
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(matrix), rel=1e-5)  # an isometry
    np.testing.assert_allclose(found[:6], matrix[0] * [1, *[math.sqrt(2)] * 5], atol=1e-4)
    still = log_covariance(torch.ones(1, 3))
    np.testing.assert_allclose(still, math.log(0.01) * np.array([1, 0, 0, 1, 0, 1]), rtol=1e-6)


def test_stretches_are_those_of_groupby() -> None:
    mask = noise(200) > 0.3
    lengths = [len(list(group)) / 100 for value, group in itertools.groupby(mask.tolist()) if value]
    expected = [np.mean(lengths), np.std(lengths), max(lengths), len(lengths) / 2]
    np.testing.assert_allclose(stretches(mask), expected, rtol=1e-5)
    assert not stretches(torch.zeros(9, dtype=torch.bool)).any()
    np.testing.assert_allclose(stretches(torch.ones(9, dtype=torch.bool)), [0.09, 0, 0.09, 100 / 9], rtol=1e-5)


# ---- kernels


def test_the_answers_of_the_kernels_are_numpys_correlations() -> None:
    contours, speech = noise(120, 5), noise(120, seed=1) > -0.5
    found = kernel_responses(contours, speech).double().numpy().reshape(len(DILATIONS), 4, NUM_KERNELS)
    assert found.size == NUM_RESPONSES
    for place, (dilation, kernels) in enumerate(zip(DILATIONS, _kernels(5, torch.device("cpu")), strict=True)):
        kernel = kernels[7].double().numpy()  # (5, width)
        assert np.linalg.norm(kernel) == pytest.approx(1, abs=1e-5)
        spread = np.zeros((5, dilation * (WIDTH - 1) + 1))
        spread[:, ::dilation] = kernel
        each = [
            np.correlate(column, taps, "same") for column, taps in zip(contours.double().numpy().T, spread, strict=True)
        ]
        kept = np.sum(each, 0)[speech.numpy()]
        shares = [(1 / (1 + np.exp(-8 * (kept - threshold)))).mean() for threshold in (-0.5, 0, 0.5)]
        np.testing.assert_allclose(found[place, :, 7], [*shares, kept.std()], atol=1e-5)


def test_half_of_the_kernels_respond_to_changes_alone() -> None:
    kernels = torch.cat(_kernels(5, torch.device("cpu")))
    still = kernels.sum(2).abs().amax(1) < 1e-5  # (4 K,)
    assert still[::2].all() and not still[1::2].any()


def test_the_kernels_are_those_that_models_were_trained_with() -> None:
    """Drawn again at every start: another random generator would make every saved model wrong."""
    first, *_, last = _kernels(39, torch.device("cpu"))
    assert first[1, 0, :3].tolist() == pytest.approx(PINNED[0], abs=1e-6)
    assert last[-1, -1, -3:].tolist() == pytest.approx(PINNED[1], abs=1e-6)


# ---- contours


def test_the_shape_of_one_frame_is_numpys() -> None:
    wave = noise(400) * 0.1
    frame = wave.double().numpy() - wave.double().numpy().mean()
    khz = np.fft.rfftfreq(512, 1 / 16)
    power = np.abs(np.fft.rfft(frame * np.hanning(401)[:-1], 512)) ** 2 + 1e-10
    share, logs = power / power.sum(), np.log(power)
    centroid = (share * khz).sum()
    cumulated, low = share.cumsum(), (khz >= 0.05) & (khz < 1)
    bands = [(0.25, 0.65), (1, 4), (4, 8)]
    expected = [
        np.log(frame.std()),
        np.mean((frame[1:] >= 0) != (frame[:-1] >= 0)),
        np.log(np.cbrt(power).sum()),
        centroid,
        np.sqrt((share * (khz - centroid) ** 2).sum()),
        stats.entropy(power),
        *(khz[np.searchsorted(cumulated, part)] for part in (0.25, 0.5, 0.75, 0.9)),
        np.log(stats.gmean(power) / power.mean()),
        *(
            np.polyfit(khz[(khz >= a) & (khz <= b)], logs[(khz >= a) & (khz <= b)], 1)[0]
            for a, b in [(0, 0.5), (0.5, 1.5), (1, 8)]
        ),
        0.0,  # no frame before it
        np.log(share[low].sum() / share[(khz >= 1) & (khz < 5)].sum()),
        *(np.log(share[(khz >= a) & (khz < b)].sum()) for a, b in bands),
    ]
    np.testing.assert_allclose(spectral_shape(wave)[0], expected, rtol=1e-3, atol=1e-3)


def test_louder_sound_has_another_level_and_no_other_shape() -> None:
    wave = noise(RATE) * 0.05
    change = spectral_shape(2 * wave) - spectral_shape(wave)
    assert change[:, 0].allclose(torch.tensor(math.log(2)), atol=1e-4)
    assert change[:, 2].allclose(torch.tensor(math.log(4) / 3), atol=1e-3)
    change[:, [0, 2]] = 0
    assert change.abs().max() < 1e-3


@pytest.mark.parametrize("pitch_hz", [75.0, 110.0, 163.0, 240.0, 390.0])
def test_the_pitch_is_exact_to_half_a_percent(pitch_hz: float) -> None:
    contours, periodic = voice(buzz(pitch_hz))
    assert contours.shape == (98, 9) and periodic.shape == (98,)
    inner = slice(2, -6)  # the last frames reach beyond the end
    assert (periodic[inner] > 0.98).all()
    assert (60 * 2 ** contours[inner, 0] / pitch_hz - 1).abs().max() < 0.005
    assert contours[inner, 7].max() < 0.01  # a steady voice has no jitter


def test_harmonics_to_noise_is_their_ratio() -> None:
    steady = buzz(150.0)
    for ratio_db in (5.0, 10.0, 15.0):
        noisy = steady + steady.std() * 10 ** (-ratio_db / 20) * noise(RATE)
        contours, _ = voice(noisy)
        assert contours[2:-6, 1].mean() / math.log(10) * 10 == pytest.approx(ratio_db, abs=1.5)


def test_the_first_harmonic_over_the_second() -> None:
    contours, _ = voice(tone(200.0) + tone(400.0, level=0.05))
    assert contours[2:-6, 2].mean() == pytest.approx(math.log(4), abs=0.2)


# ---- the upstream


def test_autocast_changes_nothing() -> None:
    wave = 0.1 * noise(RATE)
    with torch.autocast("cpu", torch.bfloat16):
        found = vector(wave)
    assert torch.equal(found, vector(wave))


def test_the_vector_of_silence_clicks_and_noise_is_finite() -> None:
    click = torch.zeros(RATE)
    click[8000] = 1
    for wave in (torch.zeros(1), torch.zeros(RATE), click, buzz(100.0)[:300], noise(500), 0.1 * noise(RATE)):
        found = vector(wave)
        assert torch.isfinite(found).all() and len(found) == load_upstream("contours").hidden_size


def test_silence_around_the_speech_is_left_out() -> None:
    speech = buzz(150.0) * (0.55 + 0.45 * torch.sin(2 * math.pi * 4 * torch.arange(RATE) / RATE))
    hiss = 1e-4 * noise(3 * RATE, seed=1)
    around = hiss.clone()
    around[RATE : 2 * RATE] += speech
    upstream = load_upstream("contours")
    bare, padded = upstream.groups(hiss[RATE : 2 * RATE] + speech), upstream.groups(around)
    assert bare["time"][0].exp() == pytest.approx(1, abs=0.03) and padded["time"][0].exp() == pytest.approx(1, abs=0.03)
    for name in ("percentiles", "voice percentiles", "kernels"):
        apart = (bare[name] - padded[name]).norm() / bare[name].norm()
        assert apart < 0.1, (name, apart)


@pytest.mark.data
def test_real_speech_is_of_the_order_of_one(data: Path) -> None:
    for path in sorted((data / "librispeech").glob("*.flac"))[:3]:
        numbers = vector(read_audio(path, RATE))
        assert 0.3 < numbers.std() < 4 and numbers.abs().max() < 40
