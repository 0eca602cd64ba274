"""Several upstreams as one: each stream is what its upstream gives alone, at times that are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from undertone.upstream import HiddenStates, Upstream, WaveBatch, build_upstream, load_upstream
from undertone.upstream.hf.adapt import add_lora, load_adapters, save_adapters
from undertone.upstream.streams import Streams, frame_times, stream_shapes
from undertone.upstream.types import StreamBatch

Tiny = Callable[[str], Path]


@pytest.fixture(scope="module")
def streams(tiny: Tiny) -> Streams:
    parts = {"ssl": load_upstream(str(tiny("tiny-wavlm"))), "mfcc": load_upstream("mfcc")}
    return Streams(parts | {"whole": load_upstream("functionals")}).eval()


@pytest.fixture
def batch() -> WaveBatch:
    generator = torch.Generator().manual_seed(0)
    return WaveBatch.collate([0.1 * torch.randn(size, generator=generator) for size in (16_000, 9_000)], 16_000)


@torch.no_grad()
def test_each_stream_is_what_its_upstream_gives_alone(streams: Streams, batch: WaveBatch) -> None:
    found = streams(batch).streams
    assert list(found) == ["ssl", "mfcc", "whole"]
    for name, part in streams.streams.items():
        expected = part(batch)
        torch.testing.assert_close(found[name].states, expected.states, rtol=0, atol=0)
        assert found[name].lengths.tolist() == expected.lengths.tolist()
    shapes = {name: (shape.num_layers, shape.hidden_size) for name, shape in stream_shapes(streams).items()}
    assert shapes == {name: one.states.shape[1::2] for name, one in found.items()}


@torch.no_grad()
def test_states_that_are_given_go_through_and_those_of_audio_are_computed(streams: Streams, batch: WaveBatch) -> None:
    stored = HiddenStates(torch.randn(2, 1, 98, 39), torch.tensor([98, 54]))
    found = streams(StreamBatch({"ssl": batch, "mfcc": stored})).streams
    assert found["mfcc"] is stored and list(found) == ["ssl", "mfcc"]
    torch.testing.assert_close(found["ssl"].states, streams.streams["ssl"](batch).states, rtol=0, atol=0)


def test_the_spec_rebuilds_them_in_order_and_the_weights_fit(streams: Streams, batch: WaveBatch) -> None:
    spec = streams.spec()
    assert spec["kind"] == "streams" and [one["stream"] for one in spec["streams"]] == ["ssl", "mfcc", "whole"]
    again = build_upstream(spec)
    again.load_state_dict(streams.state_dict())
    assert list(again.streams) == list(streams.streams) and again.weights_hash() == streams.weights_hash()
    with torch.no_grad():
        torch.testing.assert_close(again(batch).streams["ssl"].states, streams(batch).streams["ssl"].states)


def test_streams_of_more_weights_than_the_file_holds_are_not_made(streams: Streams) -> None:
    """Each of them alone has no more than that."""
    spec = streams.spec()
    ssl, size = spec["streams"][0], sum(weight.numel() for weight in streams.parameters())
    assert list(build_upstream(spec, num_weights=size).streams) == ["ssl", "mfcc", "whole"]
    several = {"kind": "streams", "name": "x", "streams": [ssl, ssl | {"stream": "other"}]}
    build_upstream(several, num_weights=2 * size)
    with pytest.raises(ValueError, match=f"describes {size:,} weights, its file holds {size - 1:,}"):
        build_upstream(several, num_weights=2 * size - 1)


def test_another_name_order_or_part_is_another_fingerprint(streams: Streams) -> None:
    ssl, mfcc = streams.streams["ssl"], streams.streams["mfcc"]
    several = [{"a": ssl, "b": mfcc}, {"b": mfcc, "a": ssl}, {"a": ssl, "c": mfcc}, {"a": ssl}]
    assert len({Streams(parts).fingerprint() for parts in several}) == 4
    assert len({Streams(parts).weights_hash() for parts in several}) == 4


def test_the_limits_are_those_of_every_part(tiny: Tiny, streams: Streams) -> None:
    whisper = load_upstream(str(tiny("tiny-whisper")))
    assert Streams({"a": whisper, "b": streams.streams["mfcc"]}).max_seconds == 30
    assert streams.name.endswith("tiny-wavlm+mfcc+whole=functionals") and streams.random_weights
    other = load_upstream("mfcc")
    other.sample_rate = 8_000
    with pytest.raises(ValueError, match="need one sample rate; got a 16000 Hz, b 8000 Hz"):
        Streams({"a": streams.streams["mfcc"], "b": other})
    with pytest.raises(ValueError, match="cannot be called 'items'"):
        Streams({"items": other})
    with pytest.raises(ValueError, match=r"ask upstream.streams\[NAME\].frame_lengths"):
        streams.frame_lengths(torch.tensor([16_000]))


@pytest.mark.parametrize(
    ("name", "hop", "start"),
    [
        ("mfcc", 0.01, 0.0125),  # windows of 25 ms every 10 ms
        ("waveform", 0.04, 0.02),  # frames of 40 ms, end to end
        ("functionals", float("inf"), 0.0),
        ("tiny-wav2vec2", 0.02, 0.0125),  # convolutions that see 400 samples and move 320
        ("tiny-sew", 0.04, 0.0225),
    ],
)
def test_times_of_the_frames(tiny: Tiny, name: str, hop: float, start: float) -> None:
    upstream = load_upstream(str(tiny(name)) if name.startswith("tiny") else name)
    assert frame_times(upstream) == (pytest.approx(hop), pytest.approx(start))


@torch.no_grad()
@pytest.mark.parametrize("name", ["mfcc", "spectrogram", "waveform", "tiny-wav2vec2"])
def test_a_click_is_where_the_times_say(tiny: Tiny, name: str) -> None:
    """Also of a clip that is shorter than others in its batch: every stream is padded on the same side."""
    upstream = load_upstream(str(tiny(name)) if name.startswith("tiny") else name)
    generator = torch.Generator().manual_seed(1)
    clicked, long = (1e-3 * torch.randn(size, generator=generator) for size in (16_000, 24_000))
    (hop, start), place = frame_times(upstream), 8_000
    clicked[place : place + 8] = 0.5
    seen = []
    if name.startswith("tiny"):  # the convolutions: what follows mixes frames
        upstream.model.feature_extractor.register_forward_hook(lambda _, __, output: seen.append(output[0].T))
    states = upstream(WaveBatch.collate([clicked, long], 16_000)).states[0, 0]
    frames = (seen[0] if seen else states)[: int(upstream.frame_lengths(torch.tensor(16_000)))]
    moved = int((frames - frames.median(0).values).norm(dim=1).argmax())
    assert abs(start + hop * moved - place / 16_000) <= max(hop, 0.02)


@torch.no_grad()
@pytest.mark.parametrize("names", [(), ("ssl",), ("speech",), ("speech", "mfcc")])
def test_adapters_are_read_where_they_were_written(
    tiny: Tiny, tmp_path: Path, batch: WaveBatch, names: tuple[str, ...]
) -> None:
    """Also of one upstream with a name, and of a stream with the name that one without has inside."""

    def made() -> Upstream:
        ssl = load_upstream(str(tiny("tiny-wav2vec2")))
        return Streams(dict(zip(names, (ssl, load_upstream("mfcc")), strict=False))).eval() if names else ssl

    def states(upstream: Upstream) -> torch.Tensor:
        return next(iter(upstream.streams.values()))(batch).states

    adapted, again = made(), made()
    ssl = next(iter(adapted.streams.values()))
    add_lora(ssl, rank=2, alpha=4, dropout=0.0)
    for name, weight in ssl.named_parameters():
        if "lora_B" in name:
            weight.fill_(0.1)
    save_adapters(adapted, tmp_path / "adapter")
    plain = states(again)
    load_adapters(again, tmp_path / "adapter")
    torch.testing.assert_close(states(again), states(adapted.eval()))
    assert not torch.allclose(states(again), plain, atol=1e-3)
