"""The waveform network: its long convolution against conv1d, its shapes, and no spectrogram in its graph."""

from __future__ import annotations

import pytest
import torch

from undertone.downstream.head import build_head
from undertone.downstream.heads.trigeorgis2016 import LongConvolution, ShortConvolution
from undertone.downstream.task import Task
from undertone.recipes.systems import load_system
from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.types import Frames

EMOTION = Task("emotion", "classification", ("angry", "happy", "sad"))
AROUSAL = Task("arousal", "regression", ("arousal",), level="frame")


@pytest.mark.parametrize(("taps", "length"), [(1, 5), (4, 3), (7, 50), (80, 1000), (501, 64)])
def test_the_long_convolution_is_conv1d(taps: int, length: int) -> None:
    torch.manual_seed(0)
    ours, signal = LongConvolution(3, 2, taps), torch.randn(2, 3, length)
    direct = torch.nn.functional.conv1d(signal, ours.weight, ours.bias, padding="same")
    torch.testing.assert_close(ours(signal), direct, atol=1e-5, rtol=1e-5)
    ours, signal = ours.double(), signal.double().requires_grad_()
    expected = torch.nn.functional.conv1d(signal, ours.weight, ours.bias, padding="same")
    found = ours(signal)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    grads = [torch.autograd.grad((out * weights).sum(), (signal, ours.weight)) for out in (found, expected)]
    for own, reference in zip(*grads, strict=True):
        torch.testing.assert_close(own, reference)


@pytest.mark.parametrize(("taps", "length"), [(1, 2), (4, 32), (7, 50), (80, 1000)])
def test_the_short_convolution_is_conv1d_and_max_pool1d(taps: int, length: int) -> None:
    torch.manual_seed(0)
    ours, signal = ShortConvolution(3, taps).double(), torch.randn(2, 1, length).double()
    maps = torch.nn.functional.conv1d(torch.nn.functional.pad(signal, ours.around), ours.weight, ours.bias)
    expected, found = torch.nn.functional.max_pool1d(maps.relu(), 2), ours(signal)
    assert maps.shape[2] == length
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    grads = [torch.autograd.grad((out * weights).sum(), (ours.weight, ours.bias)) for out in (found, expected)]
    for own, reference in zip(*grads, strict=True):
        torch.testing.assert_close(own, reference)


def test_the_shapes_of_the_paper_from_six_seconds_of_samples() -> None:
    options = load_system("trigeorgis2016")["head_options"] | {"long_taps": 100, "num_layers": 1}
    head = build_head("trigeorgis2016", {"speech": 640}, (AROUSAL,), options).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("short", "long", "rnn"):
        part = getattr(head, name)
        part.register_forward_hook(
            lambda part, given, out, name=name: shapes.update(
                {name: tuple(out.features.shape if isinstance(out, Frames) else out.shape)}
            )
        )
    waveform = load_upstream("waveform")
    states = waveform(WaveBatch.collate([torch.randn(96_000)], 16_000))
    assert states.states.shape == (1, 1, 150, 640)
    front = head.front_end(Frames(states.states[:, 0], states.lengths))
    assert shapes["short"] == (1, 40, 48_000) and shapes["long"] == (1, 40, 48_000)
    assert front.features.shape == (1, 150, 2 * 320)
    output = head({"speech": Frames(states.states[:, 0], states.lengths)})
    assert shapes["rnn"] == (1, 150, 256) and output.logits["arousal"].shape == (1, 150, 1)


def test_the_frames_laid_end_to_end_are_the_sound() -> None:
    wave = 0.3 * torch.randn(1500) + 0.1
    upstream = load_upstream("waveform")
    together = upstream(WaveBatch.collate([wave, torch.randn(4000)], 16_000))
    assert together.lengths.tolist() == [3, 7] == upstream.frame_lengths(torch.tensor([1500, 4000])).tolist()
    normed = (wave - wave.mean()) / wave.std(correction=0)
    sound = together.states[0, 0].flatten()
    torch.testing.assert_close(sound[:1500], normed, atol=1e-3, rtol=0)
    assert not sound[1500:].any()
    assert upstream(WaveBatch.collate([torch.zeros(10)], 16_000)).states.shape == (1, 1, 1, 640)
    with pytest.raises(ValueError, match="frame_ms must be >= 1, got 0"):
        load_upstream("waveform", options={"frame_ms": 0})


def test_no_spectrum_of_the_sound_is_taken() -> None:
    """The samples reach the first convolution as they are; the only FFTs are the long convolution's own."""
    upstream = load_upstream("waveform")
    head = build_head("trigeorgis2016", {"speech": 640}, (EMOTION,), {"long_taps": 50}).eval()

    def run(wave: torch.Tensor) -> None:
        states = upstream(WaveBatch.collate([wave], 16_000))
        head({"speech": Frames(states.states[:, 0], states.lengths)})

    seen: list[torch.Tensor] = []
    head.short.register_forward_hook(lambda part, given, out: seen.append(given[0]))
    wave = torch.randn(6400)
    with torch.profiler.profile() as profile:
        run(wave)
    names = [event.key for event in profile.key_averages()]
    assert not [name for name in names if "stft" in name or "mel" in name or "mfcc" in name]
    assert sum(event.count for event in profile.key_averages() if event.key == "aten::fft_rfft") == 2  # signal, filters
    torch.testing.assert_close(seen[0].flatten(), (wave - wave.mean()) / wave.std(correction=0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_padding_and_batch_mates_change_nothing(pooling: str) -> None:
    torch.manual_seed(0)
    options = {"long_taps": 100, "hidden_size": 8, "pooling": pooling}
    head = build_head("trigeorgis2016", {"speech": 40}, (EMOTION, AROUSAL), options).eval()
    clips = [torch.randn(length, 40) for length in (1, 12, 5)]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=9.0)
    together = head({"speech": Frames(batch, torch.tensor([1, 12, 5]))})
    for row, clip in enumerate(clips):
        alone = head({"speech": Frames(clip[None], torch.tensor([len(clip)]))})
        torch.testing.assert_close(together.logits["emotion"][row], alone.logits["emotion"][0], atol=1e-5, rtol=0)
        frames = together.logits["arousal"][row, : len(clip)]
        torch.testing.assert_close(frames, alone.logits["arousal"][0], atol=1e-5, rtol=0)


def test_noise_is_added_in_training_alone() -> None:
    head = build_head("trigeorgis2016", {"speech": 40}, (EMOTION,), {"long_taps": 50, "noise": 0.1, "dropout": 0.0})
    frames = {"speech": Frames(torch.randn(1, 5, 40), torch.tensor([5]))}
    assert not torch.equal(head.train()(frames).embedding, head(frames).embedding)
    assert torch.equal(head.eval()(frames).embedding, head(frames).embedding)


def test_options_that_cannot_be() -> None:
    for options in ({"filters": 7}, {"num_maps": 3}):
        with pytest.raises(ValueError, match="filters that num_maps divides are needed"):
            build_head("trigeorgis2016", {"speech": 40}, (EMOTION,), options)
    with pytest.raises(ValueError, match="got 41 samples"):
        build_head("trigeorgis2016", {"speech": 41}, (EMOTION,), {})
    with pytest.raises(ValueError, match="pooling must be mean or last, got 'max'"):
        build_head("trigeorgis2016", {"speech": 40}, (EMOTION,), {"pooling": "max"})
