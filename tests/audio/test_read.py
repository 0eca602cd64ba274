"""Reading sound: every format and width right, every defect a sentence with the path."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from undertone.audio.read import AudioError, audio_info, read_audio, read_samples

RATE = 16000


def tone(seconds: float = 0.5, rate: int = RATE, hz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def refusal(path: Path, **span: float) -> str:
    with pytest.raises(AudioError) as caught:
        read_samples(path, **span)
    assert str(path) in str(caught.value) and caught.value.path == str(path)
    return caught.value.reason


def test_16_bit_samples_are_integers_over_32768(tmp_path: Path) -> None:
    integers = np.random.default_rng(0).integers(-32768, 32767, 5000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", integers, RATE)
    samples, rate = read_samples(tmp_path / "a.wav")
    assert rate == RATE and samples.dtype == np.float32 and samples.shape == (5000,)
    np.testing.assert_array_equal(samples, integers / np.float32(32768))


@pytest.mark.parametrize("extension", ["flac", "aiff", "ogg", "mp3"])
def test_other_formats(tmp_path: Path, extension: str) -> None:
    soundfile.write(tmp_path / f"a.{extension}", tone(), RATE)
    samples, rate = read_samples(tmp_path / f"a.{extension}")
    assert rate == RATE
    lossless = extension in ("flac", "aiff")
    np.testing.assert_allclose(samples[:8000], tone()[: len(samples)], atol=2**-15 if lossless else 0.05)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_other_widths(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE, subtype=subtype)
    np.testing.assert_allclose(read_samples(tmp_path / "a.wav")[0], tone(), atol=0.01)


def test_aiff_named_wav_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "YAF_germ_angry.wav", tone(), RATE, format="AIFF")
    np.testing.assert_allclose(read_samples(tmp_path / "YAF_germ_angry.wav")[0], tone(), atol=2**-15)


def test_six_channels_are_averaged(tmp_path: Path) -> None:
    channels = np.random.default_rng(0).uniform(-1, 1, (1000, 6)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", channels, RATE, subtype="FLOAT")
    assert audio_info(tmp_path / "a.wav").channels == 6
    np.testing.assert_allclose(read_samples(tmp_path / "a.wav")[0], channels.sum(1) / 6, atol=1e-6)


def test_span_is_the_slice(tmp_path: Path) -> None:
    for extension in ("wav", "flac"):
        path = tmp_path / f"a.{extension}"
        soundfile.write(path, tone(2.0), RATE)
        whole, _ = read_samples(path)
        np.testing.assert_array_equal(read_samples(path, 0.25, 1.5)[0], whole[4000:24000])
        np.testing.assert_array_equal(read_samples(path, start=1.9)[0], whole[30400:])
        np.testing.assert_array_equal(read_samples(path, end=2.005)[0], whole)  # a rounded end is cut


@pytest.mark.parametrize(
    "span", [{"start": -0.1}, {"start": 0.5}, {"end": 0.6}, {"start": 0.3, "end": 0.2}, {"end": 0.0}]
)
def test_span_outside_the_file(tmp_path: Path, span: dict[str, float]) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.5), RATE)
    assert "outside the file, which lasts 0.5 s" in refusal(tmp_path / "a.wav", **span)


def test_8_khz_is_resampled_to_16_khz(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0, rate=8000), 8000)
    wave = read_audio(tmp_path / "a.wav", RATE).numpy()
    assert wave.dtype == np.float32 and wave.shape == (16000,)
    inside = slice(500, -500)
    np.testing.assert_allclose(wave[inside], tone(1.0)[inside], atol=2e-3)
    np.testing.assert_allclose(wave[inside], resample_poly(tone(1.0, rate=8000), 2, 1)[inside], atol=4e-3)


def test_the_same_rate_is_left_as_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", RATE).numpy(), read_samples(tmp_path / "a.wav")[0])


def test_10_ms_are_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.01), RATE)
    assert len(read_samples(tmp_path / "a.wav")[0]) == 160 and audio_info(tmp_path / "a.wav").duration == 0.01


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere.wav") == "no such file."
    assert "folder" in refusal(tmp_path)


def test_empty_text_and_no_samples(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    assert "0 bytes" in refusal(tmp_path / "empty.wav")
    (tmp_path / "text.wav").write_text("this is no sound at all, whatever the name says\n" * 9)
    assert "not readable as sound" in refusal(tmp_path / "text.wav")
    soundfile.write(tmp_path / "zero.wav", np.zeros(0, np.float32), RATE)
    assert "no samples" in refusal(tmp_path / "zero.wav")


@pytest.mark.parametrize(("extension", "word"), [("wav", "truncated"), ("aiff", "truncated"), ("mp3", "truncated")])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated(tmp_path: Path, extension: str, word: str, share: float) -> None:
    path = tmp_path / f"a.{extension}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32), RATE)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert word in refusal(path)


def test_truncated_flac(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "damaged" in refusal(path) or "truncated" in refusal(path)


def test_a_wav_cut_inside_its_header(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:30])
    assert "not readable as sound" in refusal(tmp_path / "b.wav")


def test_a_piped_wav_without_its_length_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "piped.wav").write_bytes(data)
    np.testing.assert_array_equal(read_samples(tmp_path / "piped.wav")[0], read_samples(tmp_path / "a.wav")[0])


def test_a_wav_with_chunks_around_its_sound_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    data = (tmp_path / "a.wav").read_bytes()
    odd = b"LIST" + (5).to_bytes(4, "little") + b"INFOx\0"  # an odd chunk is padded to an even size
    (tmp_path / "b.wav").write_bytes(data[:12] + odd + data[12:] + odd)
    np.testing.assert_array_equal(read_samples(tmp_path / "b.wav")[0], read_samples(tmp_path / "a.wav")[0])
    (tmp_path / "cut.wav").write_bytes(data[:12] + odd + data[12:-500])
    assert "truncated: the header claims 16000 bytes of sound, 15500 are there" in refusal(tmp_path / "cut.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, bad: float) -> None:
    samples = np.stack([tone(), tone()], axis=1)
    samples[100, 1] = bad
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    assert "1 of 8000 samples are NaN or infinite" in refusal(tmp_path / "a.wav")


def test_an_error_survives_a_process_pool(tmp_path: Path) -> None:
    error = pickle.loads(pickle.dumps(AudioError("a.wav", "why")))
    assert (str(error), error.path, error.reason) == ("a.wav: why", "a.wav", "why")


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    code = (
        "import sys; from undertone.audio.read import read_samples; read_samples(sys.argv[1]);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.wav"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
