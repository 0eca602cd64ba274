from __future__ import annotations

import pytest
import torch
import torchaudio
from torchaudio.compliance import kaldi
from torchaudio.functional import compute_deltas

from undertone.common.discovery import available
from undertone.upstream import Upstream, WaveBatch, build_upstream, load_upstream
from undertone.upstream.acoustic._base import Acoustic, BatchedAcoustic
from undertone.upstream.acoustic.fbank import Fbank

RATE = 16_000


@pytest.fixture
def wave() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(RATE, generator=generator) + 0.01


def features(name: str, wave: torch.Tensor) -> torch.Tensor:
    return load_upstream(name)(WaveBatch.collate([wave], RATE)).states[0, 0]


def test_fbank_is_kaldis_with_deltas(wave: torch.Tensor) -> None:
    static = (kaldi.fbank(wave[None], num_mel_bins=80) + 7) / 4
    delta = compute_deltas(static.T)
    expected = torch.cat([static, 5 * delta.T, 14 * compute_deltas(delta).T], 1)
    torch.testing.assert_close(features("fbank", wave), expected, rtol=0, atol=2e-4)


def test_mfcc_is_kaldis_with_deltas(wave: torch.Tensor) -> None:
    static = kaldi.mfcc(wave[None], num_ceps=13) / 16
    delta = compute_deltas(static.T)
    expected = torch.cat([static, 5 * delta.T, 12 * compute_deltas(delta).T], 1)
    torch.testing.assert_close(features("mfcc", wave), expected, rtol=0, atol=2e-4)


def test_spectrogram_is_torchaudios(wave: torch.Tensor) -> None:
    power = torchaudio.transforms.Spectrogram(n_fft=400, hop_length=160, center=False)(wave)
    torch.testing.assert_close(features("spectrogram", wave), ((power + 1e-12).log().T + 8) / 4, rtol=0, atol=1e-4)


def test_logmel_is_kaldis(wave: torch.Tensor) -> None:
    expected = (kaldi.fbank(wave[None], num_mel_bins=64) + 7) / 4
    torch.testing.assert_close(features("logmel", wave), expected, rtol=0, atol=2e-4)


def test_spectrogram_with_a_window_of_its_own_and_the_low_bins_alone(wave: torch.Tensor) -> None:
    upstream = load_upstream("spectrogram", options={"window_ms": 40, "shape": "hamming", "max_hz": 4000})
    assert upstream.hidden_size == 161  # 25 Hz each
    settings = {"n_fft": 640, "hop_length": 160, "center": False, "window_fn": torch.hamming_window}
    power = torchaudio.transforms.Spectrogram(**settings)(wave)[:161]
    found = upstream(WaveBatch.collate([wave], RATE)).states[0, 0]
    torch.testing.assert_close(found, ((power + 1e-12).log().T + 8) / 4, rtol=0, atol=1e-4)
    assert build_upstream(upstream.spec()).fingerprint() == upstream.fingerprint()
    with_deltas = load_upstream("spectrogram", options={**upstream.options, "deltas": True})
    delta = compute_deltas(found.T)
    expected = torch.cat([found, 5 * delta.T, 14 * compute_deltas(delta).T], 1)
    assert with_deltas.hidden_size == 483 and with_deltas.fingerprint() != upstream.fingerprint()
    states = with_deltas(WaveBatch.collate([wave], RATE)).states[0, 0]
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="shape must be hann or hamming, got 'flat'"):
        load_upstream("spectrogram", options={"shape": "flat"})
    with pytest.raises(ValueError, match="Upstream 'spectrogram': deltas must be true or false, got 'maybe'"):
        load_upstream("spectrogram", options={"deltas": "maybe"})
    with pytest.raises(ValueError, match="max_hz 1 to 8000, got 25 and 9000"):
        load_upstream("spectrogram", options={"max_hz": 9000})


def test_mfcc_of_other_sizes_without_deltas(wave: torch.Tensor) -> None:
    expected = kaldi.mfcc(wave[None], num_ceps=40, num_mel_bins=64) / 16
    upstream = load_upstream("mfcc", options={"num_mels": 64, "coefficients": 40, "deltas": False})
    found = upstream(WaveBatch.collate([wave], 16_000)).states[0, 0]
    assert upstream.hidden_size == 40
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)
    with pytest.raises(ValueError, match="coefficients must be 1 to num_mels, which is 23, got 24"):
        load_upstream("mfcc", options={"coefficients": 24})


@pytest.mark.parametrize("name, size", [("fbank", 240), ("logmel", 64), ("mfcc", 39), ("spectrogram", 201)])
def test_shape_scale_and_silence(name: str, size: int, wave: torch.Tensor) -> None:
    upstream = load_upstream(name)
    states = upstream(WaveBatch.collate([wave], RATE)).states
    assert (upstream.num_layers, upstream.hidden_size) == (1, size)
    assert states.shape == (1, 1, 98, size)
    assert states.std() < 2 and states.mean().abs() < 2
    assert torch.isfinite(upstream(WaveBatch.collate([torch.zeros(1000)], RATE)).states).all()
    assert not list(upstream.state_dict())


@pytest.mark.parametrize("name", ["fbank", "logmel", "mfcc", "spectrogram"])
def test_spec_rebuilds_the_same_front_end(name: str) -> None:
    upstream = load_upstream(name)
    assert build_upstream(upstream.spec()).fingerprint() == upstream.fingerprint()


def test_fingerprints_differ() -> None:
    names = ["fbank", "logmel", "mfcc", "spectrogram"]
    assert len({load_upstream(name).fingerprint() for name in names}) == len(names)


def test_the_fingerprint_follows_the_version_of_a_class_and_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: load_upstream(name).fingerprint() for name in ("fbank", "contours", "logmel")}
    monkeypatch.setattr(Fbank, "VERSION", 2)
    after = {name: load_upstream(name).fingerprint() for name in before}
    assert [name for name in before if after[name] != before[name]] == ["fbank"]
    monkeypatch.setattr(Acoustic, "VERSION", 2)
    assert not {load_upstream(name).fingerprint() for name in before} & {*before.values(), *after.values()}


# Mean and standard deviation of the features of `a_voice`. Where one moves, stored states are of other numbers: raise
# the VERSION of the class, or of `Acoustic` where it is the code that all share, and write the new numbers here.
OF_A_VOICE = {
    "fbank": ((1, 1), (0.0761433, 0.607512)),
    "functionals": ((1, 1), (0.0210497, 0.541837)),
    "jiang2022": ((1, 1), (0.130803, 0.602332)),
    "logmel": ((1, 1), (0.326324, 0.722073)),
    "mfcc": ((1, 1), (-0.0717494, 0.737459)),
    "spectrogram": ((1, 1), (0.164255, 0.650728)),
    "waveform": ((1, 1), (0.0, 0.999876)),
    "contours": ((1, 1), (0.396059, 1.75582)),
}


def a_voice() -> torch.Tensor:
    time = torch.arange(2 * RATE) / RATE
    noise = torch.randn(2 * RATE, generator=torch.Generator().manual_seed(0))
    tones = sum(torch.sin(2 * torch.pi * number * (120 + 20 * time) * time) / number for number in range(1, 6))
    return 0.1 * tones * (time % 1 < 0.7) + 0.002 * noise


@pytest.mark.parametrize("name", [*available("undertone.upstream.acoustic", BatchedAcoustic), "contours"])
def test_the_numbers_of_a_version_do_not_change(name: str) -> None:
    upstream = load_upstream(name)
    states = upstream(WaveBatch.collate([a_voice()], RATE)).states.double()
    version = (Acoustic.VERSION, type(upstream).VERSION)  # type: ignore[attr-defined]
    found = (float(states.mean()), float(states.std()))
    assert OF_A_VOICE[name] == (version, pytest.approx(found, rel=1e-4, abs=1e-6))


def test_a_batched_front_end_gives_each_clip_its_own_numbers(wave: torch.Tensor) -> None:
    for name in available("undertone.upstream.acoustic", BatchedAcoustic):
        upstream = load_upstream(name)
        lengths = torch.tensor([RATE, 5000, 650])
        samples = torch.stack([torch.nn.functional.pad(wave[:length], (0, RATE - length)) for length in lengths])
        together = upstream.batch_features(samples, lengths)
        for row, frames, length in zip(together, upstream.frame_lengths(lengths), lengths, strict=True):
            torch.testing.assert_close(row[:frames], upstream.features(wave[:length]), rtol=0, atol=2e-4)


MINE = """
from torch import Tensor
from undertone.upstream.acoustic._base import Acoustic

class Loudness(Acoustic):
    hidden_size = 1
    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
    def features(self, wave: Tensor) -> Tensor:
        return self.gain * wave.unfold(0, self.window, self.hop).square().mean(1, keepdim=True)
"""


def test_a_front_end_from_a_file(tmp_path, wave: torch.Tensor) -> None:
    path = tmp_path / "loudness.py"
    path.write_text(MINE)
    upstream = load_upstream(str(path), options={"gain": 2.0})
    assert isinstance(upstream, Upstream)
    expected = 2 * torch.stack([wave[i : i + 400].square().mean() for i in range(0, RATE - 399, 160)])
    torch.testing.assert_close(upstream(WaveBatch.collate([wave], RATE)).states[0, 0, :, 0], expected)
    assert upstream.fingerprint() != load_upstream(str(path)).fingerprint()
    with pytest.raises(ValueError, match="If you trust it, give --allow"):
        build_upstream(upstream.spec())
    assert build_upstream(upstream.spec(), allow=(str(path),)).fingerprint() == upstream.fingerprint()
    with pytest.raises(ValueError, match="does not take the options"):
        load_upstream(str(path), options={"gian": 2.0})
