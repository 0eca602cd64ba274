"""Recordings of phones, browsers and cameras: read as the samples that went in, and refused with what to do."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from undertone.audio import containers
from undertone.audio.read import AudioError, audio_info, read_samples

av = pytest.importorskip("av")

KINDS = {
    "voice.m4a": ("aac", None),
    "voice.aac": ("aac", None),
    "voice.webm": ("libopus", None),
    "film.mp4": ("aac", "mpeg4"),
}
RATE, SECONDS = 48_000, 2.0


def sound() -> np.ndarray:
    """(2, N): a swelling tone and its half, so that channels, gain and order show."""
    time = np.arange(int(RATE * SECONDS)) / RATE
    tone = (0.5 * time / SECONDS * np.sin(2 * np.pi * 300 * time)).astype("f4")
    return np.stack([tone, 0.5 * tone])


def write(path: Path, codec: str, video: str | None, samples: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout="stereo")
        if video:
            picture = container.add_stream(video, rate=10)
            picture.width = picture.height = 32
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * number, "u1"), format="rgb24")
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
        sound.sample_rate = RATE
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phones")
    for name, (codec, video) in KINDS.items():
        write(folder / name, codec, video, sound())
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_what_went_in_comes_out(folder: Path, name: str) -> None:
    samples, rate = read_samples(folder / name)
    expected = sound().mean(0)
    info = audio_info(folder / name)
    assert (rate, info.channels, info.num_samples) == (RATE, 2, len(samples))
    assert len(samples) == pytest.approx(len(expected), abs=0.1 * RATE) and samples.dtype == np.float32
    best = max(range(0, 4096, 4), key=lambda shift: float(np.dot(samples[shift : shift + 40_000], expected[:40_000])))
    size = min(len(expected), len(samples) - best)
    assert np.corrcoef(samples[best : best + size], expected[:size])[0, 1] > 0.99
    assert np.abs(samples).max() == pytest.approx(np.abs(expected).max(), rel=0.1)


def test_a_span_is_cut_from_it_and_the_name_does_not_matter(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "voice.m4a", tmp_path / "voice.wav")
    whole, _ = read_samples(folder / "voice.m4a")
    part, rate = read_samples(tmp_path / "voice.wav", 0.5, 1.25)
    np.testing.assert_array_equal(part, whole[RATE // 2 : RATE * 5 // 4])


def test_threads_decode_a_file_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, decode = [], containers._decode
    monkeypatch.setattr(containers, "_decode", lambda *words: decoded.append(words) or decode(*words))
    containers._DECODED._forget()
    threads = [threading.Thread(target=read_samples, args=(folder / "voice.m4a",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 1
    monkeypatch.setattr(containers._DECODED, "most", 1)
    (first,) = containers._DECODED.made.values()
    read_samples(folder / "voice.webm")
    assert len(containers._DECODED.made) == 1 and not first.exists(), "only the last one is kept"
    read_samples(folder / "voice.m4a")
    assert len(decoded) == 3


def test_without_pyav_and_ffmpeg_the_sentence_says_what_to_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(folder / "voice.m4a", tmp_path / "my voice.m4a")
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        AudioError,
        match=r"this is an MP4 file .*pip install 'undertone\[av\]'.*ffmpeg -i 'my voice.m4a' 'my voice'.wav",
    ):
        read_samples(tmp_path / "my voice.m4a")


def test_ffmpeg_is_used_where_there_is_no_pyav(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of that name which takes the words that the real one takes, and writes the samples that PyAV gives."""
    whole, _ = read_samples(folder / "voice.m4a")
    program = tmp_path / "ffmpeg"
    program.write_text(
        f"#!{sys.executable}\nimport sys, numpy, soundfile\n"
        "assert sys.argv[1:5] == ['-nostdin', '-v', 'error', '-xerror'] and sys.argv[6].startswith('file:'), sys.argv\n"
        "if 'bad' in sys.argv[6]: sys.exit('Invalid data found')\n"
        "soundfile.write(sys.argv[-1], numpy.full((480, 2), .25), 48000, 'FLOAT', format='W64')\n"
    )
    program.chmod(0o755)
    for name in ("good.m4a", "bad.m4a"):
        shutil.copy(folder / "voice.m4a", tmp_path / name)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    np.testing.assert_allclose(read_samples(tmp_path / "good.m4a")[0], 0.25)
    with pytest.raises(AudioError, match="which ffmpeg could not decode: Invalid data found"):
        read_samples(tmp_path / "bad.m4a")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_ffmpeg_and_pyav_agree(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_av, _ = read_samples(folder / "voice.m4a")
    shutil.copy(folder / "voice.m4a", tmp_path / "again.m4a")
    monkeypatch.setitem(sys.modules, "av", None)
    by_ffmpeg, _ = read_samples(tmp_path / "again.m4a")
    size = min(len(by_av), len(by_ffmpeg))
    np.testing.assert_allclose(by_ffmpeg[:size], by_av[:size], atol=1e-4)


def test_damage_is_said(folder: Path, tmp_path: Path) -> None:
    content = (folder / "voice.m4a").read_bytes()
    (tmp_path / "cut.m4a").write_bytes(content[: len(content) // 2])
    (tmp_path / "junk.m4a").write_bytes(content[:12] + b"\x00" * 500)
    for name in ("cut.m4a", "junk.m4a"):
        with pytest.raises(AudioError, match="damaged or cut off|truncated"):
            read_samples(tmp_path / name)
    webm = (folder / "voice.webm").read_bytes()
    (tmp_path / "cut.webm").write_bytes(webm[: len(webm) // 3])
    with pytest.raises(AudioError, match="damaged or cut off|truncated"):
        read_samples(tmp_path / "cut.webm")


def test_a_video_without_sound(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "silent.mp4"), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width = picture.height = 32
        container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), "u1"), format="rgb24")))
        container.mux(picture.encode(None))
    with pytest.raises(AudioError, match="this is an MP4 file .* without audio"):
        read_samples(tmp_path / "silent.mp4")
