"""A window's answer is that of the stretch as a clip, whatever surrounds it and whatever shares its batch."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from undertone.audio.read import AudioError, read_audio
from undertone.audio.speech import no_speech
from undertone.inference.stream import Stream
from undertone.inference.waves import predict_waves
from undertone.inference.windows import predict_windows, read_segments, window_seconds

RATE = 44_100


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """7.3 s of stereo, the channels not alike."""
    random = np.random.default_rng(3)
    times = np.arange(int(7.3 * RATE)) / RATE
    left = 0.3 * np.sin(2 * np.pi * 200 * times * (1 + 0.1 * times)) + 0.02 * random.standard_normal(len(times))
    right = 0.2 * np.sin(2 * np.pi * 330 * times) * np.sin(times) + 0.05 * random.standard_normal(len(times))
    path = tmp_path_factory.mktemp("long") / "call.wav"
    soundfile.write(path, np.stack([left, right], 1), RATE)
    return path


@pytest.fixture(scope="module")
def model(predictor):
    return predictor.model


def numbers(row):
    return np.array([*row["emotion"]["scores"].values(), *row["gender"]["scores"].values(), row["arousal"]])


def rows_of(model, path, **options):
    return list(predict_windows(model, path, any_sound=True, **options))


@pytest.mark.parametrize("batch_seconds", [None, 9.0])
def test_a_window_is_a_clip(model, recording, batch_seconds):
    rows = rows_of(model, recording, window=2, hop=0.7, batch_seconds=batch_seconds)
    assert [row["start"] for row in rows] == pytest.approx([0.7 * index for index in range(9)], abs=1e-6)
    assert [row["end"] for row in rows] == pytest.approx([*(0.7 * i + 2 for i in range(8)), 7.3], abs=1e-4)
    for row in rows:
        (clip,) = predict_waves(model, [read_audio(recording, 16_000, row["start"], row["end"])])
        np.testing.assert_allclose(numbers(row), numbers(clip), atol=1e-5)
        assert set(row) == {"start", "end", "emotion", "gender", "arousal"}
    assert np.abs(numbers(rows[0]) - numbers(rows[4])).max() > 1e-3, "else any order would pass"


def test_channels_apart_are_clips_of_one_channel(model, recording, tmp_path):
    rows = rows_of(model, recording, window=3, hop=3, channels="split")
    assert [(row["start"], row["channel"]) for row in rows] == [(s, c) for s in (0.0, 3.0, 6.0) for c in (1, 2)]
    samples, _ = soundfile.read(recording, dtype="float32")
    for channel in (1, 2):
        soundfile.write(tmp_path / "one.wav", samples[:, channel - 1], RATE, subtype="FLOAT")
        for row in (row for row in rows if row["channel"] == channel):
            (clip,) = predict_waves(model, [read_audio(tmp_path / "one.wav", 16_000, row["start"], row["end"])])
            np.testing.assert_allclose(numbers(row), numbers(clip), atol=1e-5)


def test_segments_of_a_table(model, recording, tmp_path):
    table = tmp_path / "turns.csv"
    table.write_text("speaker,start,end\nB,3.5,4.25\nA,0.5,3.75\n,5,7.3\n")
    rows = rows_of(model, recording, window=4, hop=2, segments=table)
    found = [(round(row["start"], 3), round(row["end"], 3), row.get("speaker")) for row in rows]
    assert found == [(0.5, 3.75, "A"), (3.5, 4.25, "B"), (5.0, 7.3, None)]
    same = rows_of(model, recording, window=4, segments=[(0.5, 3.75, "A"), {"start": 3.5, "end": 4.25, "speaker": "B"}])
    for row, expected in zip(same, rows, strict=False):
        np.testing.assert_allclose(numbers(row), numbers(expected), atol=1e-5)
    longer = rows_of(model, recording, window=2, hop=1, segments=[(0.5, 3.75)])
    assert [round(row["start"], 3) for row in longer] == [0.5, 1.5, 2.5]


@pytest.mark.parametrize(
    "text, said",
    [
        ("begin,stop\n1,2\n", "must have the columns start, end"),
        ("start,end\n1,x\n", "line 2: start and end must be seconds"),
        ("start,end\n1,inf\n", "line 2: start and end must be seconds"),
        ("start,end\n2,1\n", "the span 2 to 1 s is empty or outside"),
        ("start,end\n", "there is no segment"),
        ("start,end\n1,99\n", "call.wav: the span 1 to 99 s is empty or outside the file, which lasts 7.3 s"),
    ],
)
def test_tables_that_are_none_are_refused(model, recording, tmp_path, text, said):
    (tmp_path / "turns.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        rows_of(model, recording, segments=tmp_path / "turns.csv")
    with pytest.raises(ValueError, match="Cannot read the table of segments"):
        read_segments(tmp_path / "none.csv")


def test_defaults_are_those_of_the_training_clips(model):
    assert window_seconds(model) == (5.0, 2.5, 30.0)
    before = model.config.trained_on
    try:
        model.config.trained_on = {"clip_seconds": {"median": 2.6, "longest": 8.9}}
        assert window_seconds(model) == (2.6, 1.3, 8.9)
        assert window_seconds(model, 4) == (4, 2.0, 4)
    finally:
        model.config.trained_on = before


def test_a_recording_as_short_as_training_clips_is_one_row(model, recording):
    (row,) = rows_of(model, recording)
    (clip,) = predict_waves(model, [read_audio(recording, 16_000)])
    np.testing.assert_allclose(numbers(row), numbers(clip), atol=1e-5)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"window": 0}, "window=0 must be seconds above 0"),
        ({"window": float("nan")}, "window=nan must be"),
        ({"window": 2, "hop": 3}, "hop=3 must be seconds above 0 and at most the window's 2 s"),
        ({"window": 2, "hop": 0}, "hop=0 must be"),
        ({"channels": "left"}, "channels='left' must be mean or split"),
    ],
)
def test_windows_that_cannot_be_are_refused(model, recording, options, said):
    with pytest.raises(ValueError, match=said):
        rows_of(model, recording, **options)


def test_a_window_that_the_memory_does_not_hold_loses_no_other(model, recording, monkeypatch):
    compute = type(model).predict_batch

    def short_of_memory(model, batch):
        if batch.samples.shape[1] > 2.5 * 16_000:
            torch.empty(2**60)
        return compute(model, batch)

    monkeypatch.setattr(type(model), "predict_batch", short_of_memory)
    rows = rows_of(model, recording, window=9, segments=[(0, 1), (1, 5), (5, 7)])
    assert ["error" in row for row in rows] == [False, True, False]
    assert "The memory does not hold 4.0 s" in rows[1]["error"]


def test_damage_is_the_windows_that_hold_it(model, tmp_path):
    samples = 0.1 * np.random.default_rng(0).standard_normal(32_000)
    samples[20_000] = np.inf
    soundfile.write(tmp_path / "inf.wav", samples, 16_000, subtype="FLOAT")
    rows = rows_of(model, tmp_path / "inf.wav", window=0.5, hop=0.5)
    assert ["error" in row for row in rows] == [False, False, True, False]
    with pytest.raises(AudioError, match="no such file"):
        rows_of(model, tmp_path / "none.wav")


def test_packed_weights_change_nothing(predictor, recording):
    alone = rows_of(predictor.model, recording, window=2, hop=1)
    for row, expected in zip(predictor.predict_long(recording, window=2, hop=1), alone, strict=True):
        np.testing.assert_allclose(numbers(row), numbers(expected), atol=1e-5)


@pytest.mark.parametrize("piece", [1, 441, 4410, 10**6])
def test_a_stream_gives_the_windows_of_the_file(model, recording, piece):
    samples, _ = soundfile.read(recording, dtype="float32", stop=int(3.1 * RATE) if piece == 1 else None)
    stream = Stream(model, RATE, window=2, hop=0.7, any_sound=True)
    if piece == 1:  # a sample at a time, but for what completes a window
        edge = 2 * RATE - 2
        pieces = [samples[:edge], *np.split(samples[edge : edge + 4], 4), samples[edge + 4 :]]
    else:
        pieces = np.split(samples, range(piece, len(samples), piece))
    rows = [*(row for one in pieces for row in stream.push(one)), *stream.close()]
    expected = rows_of(model, recording, window=2, hop=0.7)
    if piece == 1:
        expected = [row for row in expected if row["end"] <= 3.1]
        rows = rows[:-1]
    assert [(row["start"], row["end"]) for row in rows] == [(row["start"], row["end"]) for row in expected]
    for row, other in zip(rows, expected, strict=True):
        np.testing.assert_allclose(numbers(row), numbers(other), atol=1e-5)


def test_a_stream_refuses_what_is_no_audio_and_ends_once(model):
    stream = Stream(model, 16_000, window=1, hop=1)
    with pytest.raises(ValueError, match=r"got shape \(9,\) of int16. Divide 16 bit integers by 32768"):
        stream.push(np.zeros(9, np.int16))
    with pytest.raises(ValueError, match="sample_rate='x' must be a whole number of Hz"):
        Stream(model, "x")
    assert stream.push(np.zeros(0)) == [] and stream.push([0.0] * 16_000)[0]["no_speech"] == "silence"
    assert stream.close() == [] and stream.seconds == 1.0
    with pytest.raises(ValueError, match="This stream is closed"):
        stream.push(np.zeros(9))


def test_reasons_stand_in_place_of_predictions_whatever_shares_the_batch(model):
    waves = [torch.zeros(RATE), 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0)), torch.ones(99)]
    rows = predict_waves(model, waves, any_sound=False)
    assert [list(row) for row in rows] == [["duration", "no_speech"]] * 3
    assert [row["no_speech"] for row in rows] == [no_speech(wave, 16_000) for wave in waves]
    assert all("emotion" in row for row in predict_waves(model, waves))
