"""How contours move: each group against NumPy's, scipy's and numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import fft, signal

from undertone.tests.upstream.acoustic.test_contours import RATE, buzz, noise
from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.acoustic._dynamics import (
    MODULATION_HZ,
    NUM_DYNAMICS,
    RASTA,
    _bridged,
    _cosines,
    _lagged,
    _modulation,
    _rasta,
    _thirds,
)

PINNED = -0.410157, 2.46336  # mean and standard deviation
EVERYWHERE = torch.ones(9, dtype=torch.bool)


def test_a_contour_is_bridged_as_numpy_interpolates() -> None:
    contour, known = noise(40), noise(40, seed=1) > 0.5
    places = known.nonzero()[:, 0].numpy()
    expected = np.interp(np.arange(40), places, contour[known].numpy())
    np.testing.assert_allclose(_bridged(contour, known), expected, atol=1e-6)
    assert not _bridged(contour, torch.arange(40) == 3).any()


def test_rasta_is_scipys_filter() -> None:
    bands = noise(200, 3)
    np.testing.assert_allclose(_rasta(bands), signal.lfilter(*RASTA[::-1], bands.double().numpy(), axis=0), atol=1e-5)
    assert _rasta(torch.ones(400, 1))[-1].abs() < 1e-5  # a constant factor of the spectrum is gone


@pytest.mark.parametrize(("hz", "band"), [(1.2, 1), (4.2, 4), (11.7, 7), (25.0, 9)])
@pytest.mark.parametrize("frames", [100, 256, 700])
def test_a_rhythm_lies_in_its_band_of_modulation(hz: float, band: int, frames: int) -> None:
    contour = torch.sin(2 * torch.pi * hz * torch.arange(frames) / 100)
    found = _modulation(torch.stack([contour, 3 * contour], 1)).view(2, -1)
    assert MODULATION_HZ[band] <= hz < MODULATION_HZ[band + 1]
    assert (found[:, :-1].argmax(1) == band).all() and found[0, band].exp() > (0.3 if frames == 100 else 0.8)
    torch.testing.assert_close(found[0, :-1], found[1, :-1], atol=1e-3, rtol=0)  # fractions
    assert found[1, -1] - found[0, -1] == pytest.approx(np.log(9), abs=1e-3)


def test_a_contour_is_a_sum_of_cosines_whatever_it_lasts() -> None:
    contours = noise(40, 2).double()
    expected = fft.dct((contours - contours.mean(0)).numpy(), norm="ortho", axis=0)[1:8]
    np.testing.assert_allclose(_cosines(contours.float()).view(2, 7).T, expected, atol=1e-5)
    line = torch.linspace(-1, 1, 500)[:, None]
    torch.testing.assert_close(_cosines(line), _cosines(line[::3]), atol=0.02, rtol=0)


def test_thirds_are_told_from_the_whole() -> None:
    rising = torch.arange(9.0)[:, None]  # means 1, 4 and 7 of 4
    found = _thirds(rising, 10 * rising, EVERYWHERE, torch.tensor([True] * 3 + [False] * 6)).view(3, 3)
    assert found.tolist() == [[-3, 0, 1], [0, 0, 1], [3, 0, 1]]  # voiced: the first third alone
    assert torch.isfinite(_thirds(rising[:1], rising[:1], EVERYWHERE[:1], EVERYWHERE[:1])).all()


def test_frames_stand_beside_later_ones() -> None:
    assert _lagged(torch.arange(7.0)[:, None], 2, 3).tolist() == [[0, 2, 4], [1, 3, 5], [2, 4, 6]]
    assert _lagged(torch.arange(4.0)[:, None], 10, 3).tolist() == [[0, 1, 2], [1, 2, 3]]  # too short for ten
    assert _lagged(torch.ones(1, 2), 4, 3).shape == (1, 6)


def test_contours_add_them_where_asked() -> None:
    """The numbers of this version; raise VERSION of `contours` where they move."""
    plain, upstream = load_upstream("contours"), load_upstream("contours", options={"dynamics": True})
    assert upstream.hidden_size == plain.hidden_size + NUM_DYNAMICS == 9586
    assert upstream.fingerprint() != plain.fingerprint()
    speech = buzz(150.0, 2.0) * (0.55 + 0.45 * torch.sin(2 * torch.pi * 3 * torch.arange(2 * RATE) / RATE))
    batch = WaveBatch.collate([speech, noise(300)], RATE)
    found, expected = upstream(batch).states[:, 0, 0], plain(batch).states[:, 0, 0]
    assert torch.equal(found[:, : plain.hidden_size], expected)
    own = found[0, plain.hidden_size :].double()
    assert (float(own.mean()), float(own.std())) == pytest.approx(PINNED, rel=1e-3)


def test_they_are_finite_of_silence_clicks_and_noise() -> None:
    upstream, click = load_upstream("contours", options={"dynamics": True}), torch.zeros(RATE)
    click[8000] = 1
    for wave in (torch.zeros(1), torch.zeros(RATE), click, buzz(100.0)[:300], noise(500), 0.1 * noise(RATE)):
        states = upstream(WaveBatch.collate([wave], RATE)).states
        assert states.shape == (1, 1, 1, 9586) and torch.isfinite(states).all()
