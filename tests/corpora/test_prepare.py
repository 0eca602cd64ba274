"""`prepare`: each kind of broken file set aside with its reason, each doubtful one kept with a warning."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from undertone.corpora.own.table import Table
from undertone.corpora.prepare import hash_audio, prepare, summary

RATE = 16000


def noise(seconds: float, seed: int = 0, channels: int = 1, level: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-level, level, (round(seconds * RATE), channels)).astype(np.float32)


def table(folder: Path, labels: dict[str, str]) -> Table:
    (folder / "t.csv").write_text("file,emotion\n" + "".join(f"{name},{label}\n" for name, label in labels.items()))
    return Table(folder / "t.csv")


@pytest.fixture
def mixed(tmp_path: Path) -> Table:
    """Two good files and one of each defect."""
    soundfile.write(tmp_path / "good.wav", noise(1.0), RATE)
    soundfile.write(tmp_path / "six.wav", noise(2.0, 1, channels=6), RATE)
    soundfile.write(tmp_path / "cut.wav", noise(1.0, 2), RATE)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "cut.wav").read_bytes()[:-1000])
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "zero.wav", np.zeros(0), RATE)
    return table(
        tmp_path,
        dict.fromkeys(["good.wav", "six.wav", "cut.wav", "text.wav", "nan.wav", "silent.wav", "zero.wav"], "sad"),
    )


def test_broken_files_are_set_aside_with_their_reason(mixed: Table) -> None:
    seen: list[tuple[int, int]] = []
    prepared = prepare(mixed, None, progress=lambda done, total: seen.append((done, total)))
    assert prepared.manifest.ids == ("good.wav", "six.wav")
    reasons = {Path(path).name: reason for path, reason in prepared.broken}
    assert list(reasons) == ["cut.wav", "text.wav", "nan.wav", "silent.wav", "zero.wav"]
    for name, word in {
        "cut": "truncated",
        "text": "not readable",
        "nan": "NaN",
        "silent": "silence",
        "zero": "no samples",
    }.items():
        assert word in reasons[f"{name}.wav"]
    assert seen == [(number, 7) for number in range(1, 8)]
    assert prepared.formats == {(RATE, 1): 1, (RATE, 6): 1}


def test_strict_names_the_broken_files(mixed: Table) -> None:
    with pytest.raises(ValueError, match=r"(?s)t: 5 of 7 utterances cannot be used.*cut\.wav: truncated.*text\.wav"):
        prepare(mixed, None, strict=True)


def test_all_broken(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"(?s)7 of 7 utterances cannot be used. Check their paths.*0\.wav: no such.*and 2 more"
    ):
        prepare(table(tmp_path, {f"{number}.wav": "sad" for number in range(7)}), None)


def test_what_is_written_down(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.5), RATE, subtype="FLOAT")
    utterance = prepare(table(tmp_path, {"a.wav": "sad"}), None).manifest[0]
    status = (tmp_path / "a.wav").stat()
    assert (utterance.duration, utterance.size, utterance.mtime_ns) == (1.5, status.st_size, status.st_mtime_ns)
    assert utterance.audio_hash == hashlib.sha256(b"16000" + noise(1.5)[:, 0].tobytes()).hexdigest()


def test_a_flac_copy_has_the_hash_of_its_wav_and_another_rate_has_not(tmp_path: Path) -> None:
    for name, rate in {"a.wav": RATE, "b.flac": RATE, "c.wav": 8000}.items():
        soundfile.write(tmp_path / name, (32767 * noise(1.0)).astype(np.int16), rate)
    prepared = prepare(table(tmp_path, {"a.wav": "sad", "b.flac": "angry", "c.wav": "sad"}), None)
    first, copy, slow = prepared.manifest.column("audio_hash")
    assert first == copy != slow
    assert prepared.warnings == ["a.wav and b.flac hold the same audio, labelled sad and angry."]
    assert hash_audio(noise(1.0)[:, 0], RATE) != hash_audio(noise(1.0, 1)[:, 0], RATE)


def test_doubtful_files_are_kept_with_a_warning(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", noise(0.01), RATE)
    soundfile.write(tmp_path / "faint.wav", noise(1.0, 1, level=5e-4), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "loud.wav", noise(1.0, 2, level=20000), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "frame.wav", noise(0.025, 3), RATE)
    prepared = prepare(table(tmp_path, dict.fromkeys(["short.wav", "faint.wav", "loud.wav", "frame.wav"], "sad")), None)
    assert len(prepared.manifest) == 4 and not prepared.broken
    short, faint, loud = prepared.warnings
    assert short == "short.wav lasts 10.0 ms, less than one frame; it will be padded."
    assert faint == "faint.wav is nearly silent: its peak is -66 dBFS."
    assert "loud.wav has samples up to 2e+04" in loud


def test_unexpected_counts_warn(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0), RATE)
    corpus = table(tmp_path, {"a.wav": "sad"})
    corpus.expected = {"emotion": {"sad": 1, "angry": 2}}
    assert prepare(corpus, None).warnings == [
        "t: emotion counts are not those of the complete corpus: angry 0 (not 2)."
    ]
    corpus.expected = {"emotion": {"sad": 1}}
    assert prepare(corpus, None).warnings == []


def test_summary(mixed: Table) -> None:
    assert summary(prepare(mixed, None)) == [
        ("utterances", "2"),
        ("skipped", "5"),
        ("hours", "0.00"),
        ("duration", "1.00 to 2.00 s, median 1.50 s"),
        ("speakers", "unknown"),
        ("emotion", "sad 2"),
        ("16000 Hz, 1 channel", "1"),
        ("16000 Hz, 6 channels", "1"),
    ]
