from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import pytest
import soundfile
import torch

from undertone.audio.read import read_audio
from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.acoustic.mfcc import Mfcc
from undertone.upstream.store.extract import clips_of_process, extract
from undertone.upstream.store.store import Store

RATE = 16_000


@dataclass(frozen=True)
class Stretch:
    path: str
    duration: float
    audio_hash: str
    start: float | None = None
    end: float | None = None
    video: str | None = None
    boxes: str | None = None


def write(folder: Path, name: str, seconds: float, seed: int = 0) -> Stretch:
    path = folder / f"{name}.wav"
    wave = 0.1 * torch.randn(int(seconds * RATE), generator=torch.Generator().manual_seed(seed))
    soundfile.write(path, wave.numpy(), RATE)
    return Stretch(str(path), seconds, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def clips(tmp_path) -> list[Stretch]:
    return [write(tmp_path, f"clip{i}", seconds, i) for i, seconds in enumerate((0.5, 1.2, 0.03, 0.9))]


@pytest.fixture
def upstream(tiny):
    return load_upstream(str(tiny("tiny-wav2vec2")))


def calls_of(upstream) -> list[int]:
    """Grows by the batch size with every forward of the upstream."""
    calls: list[int] = []
    upstream.register_forward_hook(lambda module, args, output: calls.append(len(args[0].samples)))
    return calls


def test_states_are_the_upstreams(tmp_path, clips, upstream) -> None:
    store = Store(tmp_path / "store", upstream, dtype="float32")
    calls: list[tuple[float, float]] = []
    report = extract(upstream, clips, store, progress=lambda done, total: calls.append((done, total)))
    assert (report.computed, report.reused, report.broken) == (4, 0, [])
    assert report.audio_seconds == pytest.approx(0.5 + 1.2 + 0.03 + 0.9)
    assert report.seconds > 0
    assert calls == sorted(calls) and len(calls) == 4
    assert calls[0] == pytest.approx((1.2, 2.63)) and calls[-1] == pytest.approx((2.63, 2.63))
    for clip in clips:
        with torch.inference_mode():
            expected = upstream(WaveBatch.collate([read_audio(clip.path, RATE)], RATE)).states[0]
        torch.testing.assert_close(store.get(clip.audio_hash), expected, rtol=0, atol=1e-5)


def test_means_are_the_means_of_the_frames(tmp_path, clips, upstream) -> None:
    frames, means = Store(tmp_path / "store", upstream, dtype="float32"), Store(tmp_path / "store", upstream, "mean")
    extract(upstream, clips, frames)
    extract(upstream, clips, means)
    for clip in clips:
        expected = frames.get(clip.audio_hash).mean(1, keepdim=True)
        torch.testing.assert_close(means.get(clip.audio_hash), expected, rtol=0, atol=1e-6)


def test_each_distinct_sound_is_computed_once(tmp_path, clips, upstream) -> None:
    calls = calls_of(upstream)
    store = Store(tmp_path / "store", upstream)
    copy = Stretch("somewhere/else.wav", clips[0].duration, clips[0].audio_hash)
    assert extract(upstream, [*clips, copy], store).computed == 4
    report = extract(upstream, clips, Store(tmp_path / "store", upstream))
    assert (report.computed, report.reused, sum(calls)) == (0, 4, 4)


def test_an_interrupted_extraction_goes_on(tmp_path, clips, upstream) -> None:
    calls, reports = calls_of(upstream), []

    def stop(done: float, total: float) -> None:
        reports.append(done)
        if len(reports) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(upstream, clips, Store(tmp_path / "store", upstream), progress=stop)
    before = sum(calls)  # some more may have been on their way
    report = extract(upstream, clips, Store(tmp_path / "store", upstream))
    assert (report.computed, report.reused, sum(calls) - before) == (2, 2, 2)


def test_broken_files_are_set_aside_with_the_reason(tmp_path, clips, upstream) -> None:
    (tmp_path / "text.wav").write_text("not sound")
    broken = [Stretch(str(tmp_path / "text.wav"), 1.0, "text"), Stretch(str(tmp_path / "gone.wav"), 1.0, "gone")]
    store = Store(tmp_path / "store", upstream)
    report = extract(upstream, [*broken, *clips], store)
    assert report.computed == 4
    assert sorted(Path(path).name for path, _ in report.broken) == ["gone.wav", "text.wav"]
    assert all(reason for _, reason in report.broken)
    assert store.missing(["text", "gone"]) == ["text", "gone"]


def test_states_that_are_not_finite_are_set_aside(tmp_path, clips, upstream) -> None:
    with torch.no_grad():
        upstream.model.encoder.layers[0].final_layer_norm.bias[0] = float("nan")
    store = Store(tmp_path / "store", upstream)
    report = extract(upstream, clips[:1], store)
    assert report.computed == 0 and len(store) == 0
    assert report.broken[0][0] == clips[0].path and "NaN or infinity" in report.broken[0][1]


def test_a_stretch_of_a_file(tmp_path, upstream) -> None:
    whole = write(tmp_path, "whole", 2.0)
    part = Stretch(whole.path, 0.5, "part", start=0.5, end=1.0)
    store = Store(tmp_path / "store", upstream, dtype="float32")
    extract(upstream, [part], store)
    with torch.inference_mode():
        expected = upstream(WaveBatch.collate([read_audio(whole.path, RATE)[8000:16_000]], RATE)).states[0]
    torch.testing.assert_close(store.get("part"), expected)


def test_nothing_to_do(tmp_path, upstream) -> None:
    report = extract(upstream, [], Store(tmp_path / "store", upstream))
    assert (report.computed, report.reused, report.audio_seconds) == (0, 0, 0.0)


def test_processes_share_the_seconds() -> None:
    clips = [Stretch(str(i), 1.0 + i, str(i)) for i in range(10)] + [Stretch("copy", 10.0, "9")]
    key = attrgetter("audio_hash")
    parts = [clips_of_process(clips, rank, 3, key) for rank in range(3)]
    assert sorted(clip.audio_hash for share in parts for clip in share) == [str(i) for i in range(10)]
    seconds = [sum(clip.duration for clip in share) for share in parts]
    assert max(seconds) - min(seconds) <= 4.0 and sum(seconds) == 55.0
    alone = clips_of_process(clips, 0, 1, key)
    assert alone == sorted(alone, key=lambda clip: -clip.duration)


def test_an_extraction_in_bf16_has_a_store_of_its_own_and_is_close(tmp_path, clips, upstream) -> None:
    exact = Store(tmp_path / "store", upstream, dtype="float32")
    rough = Store(tmp_path / "store", upstream, dtype="float32", precision="bf16")
    assert exact.folder != rough.folder
    extract(upstream, clips, exact)
    extract(upstream, clips, rough)
    for clip in clips:
        expected, got = exact.get(clip.audio_hash), rough.get(clip.audio_hash)
        assert 1e-5 < (got - expected).norm() / expected.norm() < 0.02


def test_the_upstream_is_left_as_it_was(tmp_path, clips, upstream) -> None:
    threads = torch.get_num_threads()
    before = upstream(WaveBatch.collate([torch.ones(8000)], RATE)).states
    extract(upstream, clips, Store(tmp_path / "store", upstream))
    assert torch.equal(upstream(WaveBatch.collate([torch.ones(8000)], RATE)).states, before) and before.requires_grad
    assert torch.get_num_threads() == threads
    started: list[int] = []
    thread = threading.Thread(target=lambda: started.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert started == [threads]


@pytest.mark.gpu
def test_on_a_gpu_in_batches(tmp_path, clips, upstream) -> None:
    cpu, gpu = Store(tmp_path / "cpu", upstream, dtype="float32"), Store(tmp_path / "gpu", upstream, dtype="float32")
    extract(upstream, clips, cpu)
    calls = calls_of(upstream)
    extract(upstream, clips, gpu, device="cuda")
    assert calls == [4]
    for clip in clips:
        torch.testing.assert_close(gpu.get(clip.audio_hash), cpu.get(clip.audio_hash), rtol=0, atol=1e-4)


def test_twins_that_work_side_by_side_give_what_one_after_the_other_gives(tmp_path, clips, upstream) -> None:
    """Also for an upstream that writes down what it needs within a forward, here the number of its samples."""

    class Forgetful(Mfcc):
        def features(self, wave: torch.Tensor) -> torch.Tensor:
            self.length = len(wave)
            time.sleep(0.02)  # meanwhile the other thread writes its own
            return super().features(wave) * self.length / RATE

    threads = torch.get_num_threads()
    try:
        for one in (upstream, Forgetful()):
            found = []
            for count in (1, 2):
                torch.set_num_threads(count)
                store = Store(tmp_path / f"{one.name}-{count}", one)
                assert extract(one, clips, store).computed == len(clips) and torch.get_num_threads() == count
                found.append([store.get(clip.audio_hash) for clip in clips])
            torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
    finally:
        torch.set_num_threads(threads)
