"""Spans of a long file have the samples of `read_samples`, in whatever coding, and the memory holds one of them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import soundfile

from undertone.audio.read import AudioError, read_samples
from undertone.audio.spans import Span, read_spans, windows

RATE = 22_050


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """The same 6 s of stereo noise in three codings."""
    folder = tmp_path_factory.mktemp("spans")
    samples = 0.2 * np.random.default_rng(0).standard_normal((6 * RATE + 123, 2)).astype(np.float32)
    for name in ("a.wav", "a.flac", "a.mp3"):
        soundfile.write(folder / name, samples, RATE)
    return folder


def test_windows_start_every_hop_and_the_last_ends_with_the_span():
    assert [(one.first, one.last) for one in windows(Span(10, 35, "x"), 10, 4)] == [
        (10, 20), (14, 24), (18, 28), (22, 32), (26, 35),
    ]  # fmt: skip
    assert [(one.first, one.last) for one in windows(Span(0, 10), 10, 4)] == [(0, 10)]
    assert [(one.first, one.last) for one in windows(Span(0, 3), 10, 10)] == [(0, 3)]
    assert {one.speaker for one in windows(Span(0, 99, "x"), 10, 4)} == {"x"}


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
def test_spans_are_those_of_a_clip_to_the_bit(waves, name):
    spans = [Span(0, 5000), Span(1000, 4000), Span(1000, 90_000), Span(95_000, 95_001), Span(120_000, 6 * RATE + 123)]
    for span, found in read_spans(waves / name, spans):
        expected, _ = read_samples(waves / name, span.first / RATE, span.last / RATE)
        assert found.shape == (1, span.last - span.first)
        np.testing.assert_array_equal(found[0], expected)


def test_channels_apart(waves):
    whole, _ = soundfile.read(waves / "a.wav", dtype="float32")
    for span, found in read_spans(waves / "a.wav", [Span(7, 3000), Span(50_000, 60_000)], split=True):
        np.testing.assert_array_equal(found, whole[span.first : span.last].T)


def test_a_defect_spoils_the_spans_that_hold_it(tmp_path):
    samples = np.zeros(4000, np.float32)
    samples[1500] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16_000, subtype="FLOAT")
    first, second, third = (found for _, found in read_spans(tmp_path / "nan.wav", windows(Span(0, 4000), 1400, 1300)))
    assert isinstance(second, AudioError) and "1 of 1400 samples are NaN" in second.reason
    assert first.shape == (1, 1400) and third.shape == (1, 1400)
    soundfile.write(tmp_path / "cut.mp3", 0.1 * np.random.default_rng(0).standard_normal(64_000), 16_000)
    (tmp_path / "cut.flac").write_bytes(b"no audio")
    with pytest.raises(AudioError, match="not readable as audio"):
        list(read_spans(tmp_path / "cut.flac", [Span(0, 9)]))


def test_memory_does_not_grow_with_the_file(tmp_path):
    """10 minutes of stereo are 77 MB as float32."""
    rate, path = 16_000, tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", rate, 2) as file:
        for _ in range(60):
            file.write(np.zeros((10 * rate, 2), np.float32))
    tracemalloc.start()
    count = sum(1 for _ in read_spans(path, windows(Span(0, 600 * rate), 5 * rate, 5 * rate)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 120 and peak < 20e6
