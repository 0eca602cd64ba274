"""What the workers regress, against numpy on windows cut by hand."""

from __future__ import annotations

import numpy as np
import torch

from undertone.pretraining.surroundings import APART, AROUND, VOICED, Surroundings
from undertone.pretraining.units import at_frames
from undertone.upstream.acoustic._voice import voice
from undertone.upstream.acoustic.mfcc import Mfcc
from undertone.upstream.types import WaveBatch


def sound() -> torch.Tensor:
    """Two seconds: a tone that rises, then noise without pitch."""
    time = torch.arange(32_000) / 16_000
    tone = 0.3 * torch.sin(2 * torch.pi * (150 + 40 * time) * time) * (time < 1.2)
    return tone + 0.01 * torch.randn(32_000, generator=torch.Generator().manual_seed(0))


def test_against_numpy() -> None:
    wave, ours = sound(), Surroundings()
    found = ours.statistics(wave).numpy()
    cepstra = Mfcc(deltas=False)(WaveBatch.collate([wave], 16_000)).states[0, 0].numpy()
    quality, periodic = (value.numpy() for value in voice(wave))
    assert found.shape == (len(cepstra), Surroundings.size)
    for frame in (0, 60, len(cepstra) - 1):
        rows = slice(max(0, frame - AROUND // 2), frame + AROUND // 2 + 1)
        near = cepstra[rows]
        np.testing.assert_allclose(found[frame, :13], near.mean(0), atol=1e-4)
        np.testing.assert_allclose(found[frame, 32:45], near.std(0), atol=1e-3)
        voiced = periodic[rows] > VOICED
        pitch = quality[rows, 0][voiced]
        np.testing.assert_allclose(found[frame, 96], pitch.mean() if len(pitch) else 0, atol=1e-4)
        np.testing.assert_allclose(found[frame, -1], voiced.mean(), atol=1e-5)
    changes = np.abs(cepstra[APART:] - cepstra[:-APART])[60 - AROUND // 2 - APART : 60 + AROUND // 2 + 1 - APART]
    np.testing.assert_allclose(found[60, 64:77], changes.mean(0), atol=1e-4)


def test_fitted_it_has_one_scale() -> None:
    ours = Surroundings()
    ours.fit(iter([(sound(), 16_000)]), 0, lambda count: None)
    raw = ours.statistics(sound())
    found = ours(sound(), 50)
    assert found.shape == (50, Surroundings.size) and found.abs().max() <= 4 and found.mean().abs() < 0.2
    expected = (at_frames(raw, 50) - raw.mean(0)) / (raw.std(0, correction=0) + 1e-4)
    torch.testing.assert_close(found, expected.clamp(-4, 4))
    assert ours(torch.zeros(100), 1).isfinite().all()
