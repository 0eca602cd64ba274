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

from undertone.audio import read
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
    assert "not readable as audio" in refusal(tmp_path / "text.wav")
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
    assert "not readable as audio" in refusal(tmp_path / "b.wav")


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
    assert "truncated: the header claims 16000 bytes of audio, 15500 are there" in refusal(tmp_path / "cut.wav")


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


CODED = [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("WAV", "IMA_ADPCM"), ("WAV", "GSM610")]
EXACT = [
    ("FLAC", "PCM_16"),
    ("WAV", "PCM_24"),
    ("AIFF", "PCM_16"),
    ("AU", "ULAW"),
    ("CAF", "ALAC_16"),
    ("W64", "FLOAT"),
]


@pytest.mark.parametrize(("kind", "subtype"), CODED + EXACT)
def test_a_span_is_cut_from_the_whole(tmp_path: Path, kind: str, subtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, path, rate = np.random.default_rng(0), tmp_path / "a", 24000 if subtype == "OPUS" else 22050
    t = np.arange(4 * rate) / rate
    samples = 0.3 * np.sin(2 * np.pi * (200 + 50 * t) * t) * (np.sin(9 * t) > 0) + 0.01 * draw.standard_normal(len(t))
    coding = {"bitrate_mode": "VARIABLE", "compression_level": 0.9} if kind == "MP3" else {}
    with soundfile.SoundFile(path, "w", rate, 1, format=kind, subtype=subtype, **coding) as file:
        file.write(samples)
    whole, _ = soundfile.read(path, dtype="float32")
    for kept in (read.KEPT_BYTES, 0):  # with the decoded file kept, and too large to keep
        monkeypatch.setattr(read, "KEPT_BYTES", kept)
        for start, end in ((0.0, 0.7), (0.51, 1.5), (2.7, 3.4), (1.0, None)):
            part, _ = read_samples(path, start, end)
            last = len(whole) if end is None else round(end * rate)
            wanted = whole[round(start * rate) : last]
            np.testing.assert_allclose(part, wanted, rtol=0, atol=1e-6)  # mpg123 rounds by where a block begins


def test_spans_of_one_file_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    plain = read._read_mono
    monkeypatch.setattr(read, "_read_mono", lambda *given, **named: decoded.append(1) or plain(*given, **named))
    for seed in (0, 1):  # the second time another file of this name
        soundfile.write(tmp_path / "a.mp3", np.random.default_rng(seed).uniform(-0.3, 0.3, 32000 + seed), 16000)
        parts = [read_samples(tmp_path / "a.mp3", 0.1 * n, 0.1 * n + 0.2)[0] for n in range(8)]
        whole, _ = soundfile.read(tmp_path / "a.mp3", dtype="float32")
        np.testing.assert_allclose(parts[3], whole[4800:8000], rtol=0, atol=1e-6)
        assert len(decoded) == seed + 1


def test_a_wav_whose_header_claims_no_sound(tmp_path: Path) -> None:
    samples, path = np.random.default_rng(0).uniform(-0.5, 0.5, 8000), tmp_path / "a.wav"
    soundfile.write(path, samples, 16000)
    data = bytearray(path.read_bytes())
    whole, _ = read_samples(path)
    data[40:44] = bytes(4)
    for riff in (bytes(4), bytes(data[4:8]), b"\xff" * 4):
        data[4:8] = riff
        path.write_bytes(data)
        np.testing.assert_array_equal(read_samples(path)[0], whole)
        assert audio_info(path).num_samples == 8000
        np.testing.assert_array_equal(read_samples(path, 0.1, 0.2)[0], whole[1600:3200])
    path.write_bytes(data[:44] + b"LIST\x04\0\0\0INFO")
    with pytest.raises(AudioError, match="holds no samples"):
        read_samples(path)
    data[40:44] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(AudioError, match="claims 1000 bytes of audio, and 15000 more lie behind"):
        read_samples(path)


def test_a_name_written_otherwise_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "Ab.wav", np.ones(100) / 2, 16000)
    for name, message in (
        ("ab.WAV", "there is 'Ab.wav'"),
        ("x\\Ab.wav", "here / separates folders"),
        ("b.wav", "file.$"),
    ):
        with pytest.raises(AudioError, match=message):
            read_samples(tmp_path / name)
