"""A ResNet on the pictures of clips: transformers' own features, each clip by itself, zeros where there is no video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from undertone.upstream import WaveBatch, build_upstream, load_upstream
from undertone.upstream.hf.adapt import add_lora, finetune
from undertone.upstream.hf.random_weights import ARCHITECTURES
from undertone.upstream.hf.video import VideoUpstream
from undertone.upstream.streams import Streams, frame_times
from undertone.upstream.types import AudioVisual

RATE = 16_000
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ResNet with its classifier, as the Hub holds ResNet-50, with batch norms that have seen something."""
    torch.manual_seed(0)
    model = ResNetForImageClassification(ResNetConfig(**ARCHITECTURES["small-resnet"][1]))
    for name, buffer in model.named_buffers():
        if "running_mean" in name:
            buffer.uniform_(-0.2, 0.2)
        if "running_var" in name:
            buffer.uniform_(0.5, 1.5)
    folder = tmp_path_factory.mktemp("video") / "resnet"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def upstream(folder: Path) -> VideoUpstream:
    upstream = load_upstream(str(folder))
    assert isinstance(upstream, VideoUpstream)
    return upstream


def clip(samples: int, seed: int, seen: bool = True) -> AudioVisual:
    generator = torch.Generator().manual_seed(seed)
    frames = -(-samples // 640)
    pictures = torch.randint(256, (frames, 96, 96, 3), generator=generator, dtype=torch.uint8) if seen else None
    return AudioVisual(0.1 * torch.randn(samples, generator=generator), pictures)


@torch.no_grad()
def test_the_features_are_those_of_transformers(upstream: VideoUpstream, folder: Path) -> None:
    one = clip(2000, 1)
    found = upstream(WaveBatch.collate([one], RATE))
    assert found.states.shape == (1, 1, 4, 64) and found.lengths.tolist() == [4]
    reference = ResNetModel.from_pretrained(folder).eval()
    assert one.pictures is not None
    inputs = ((one.pictures.float() / 255 - MEAN) / DEVIATION).permute(0, 3, 1, 2)
    torch.testing.assert_close(found.states[0, 0], reference(inputs).pooler_output.flatten(1))
    assert found.states.std() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_no_clip_depends_on_its_batch_and_none_has_zeros(upstream: VideoUpstream, training: bool) -> None:
    upstream.train(training)
    clips = [clip(2000, 1), clip(1300, 2, seen=False), clip(640, 3)]
    together = upstream(WaveBatch.collate(clips, RATE))
    assert together.lengths.tolist() == [4, 3, 1] and not together.states[1].any()
    for row, one in enumerate(clips):
        alone = upstream(WaveBatch.collate([one], RATE)).states[0]
        torch.testing.assert_close(together.states[row, :, : alone.shape[1]], alone)
        assert not together.states[row, :, alone.shape[1] :].any()
    before = upstream.weights_hash()
    upstream(WaveBatch.collate(clips, RATE))
    assert upstream.weights_hash() == before  # no running statistics have moved


def test_sound_alone_is_refused(upstream: VideoUpstream) -> None:
    with pytest.raises(ValueError, match=r"looks at pictures, got sound alone. Give the path of a video."):
        upstream(WaveBatch.collate([torch.zeros(1000)], RATE))


def test_its_frames_are_those_of_the_waveform(upstream: VideoUpstream) -> None:
    lengths, waveform = torch.tensor([1, 640, 641, 16_000]), load_upstream("waveform")
    assert upstream.frame_lengths(lengths).tolist() == waveform.frame_lengths(lengths).tolist() == [1, 1, 2, 25]
    assert frame_times(upstream) == frame_times(waveform) == pytest.approx((0.04, 0.02))


@torch.no_grad()
def test_rebuilt_from_its_spec(upstream: VideoUpstream, folder: Path) -> None:
    twin = build_upstream(upstream.spec())
    twin.load_state_dict(upstream.state_dict())
    batch = WaveBatch.collate([clip(2000, 1)], RATE)
    torch.testing.assert_close(twin(batch).states, upstream(batch).states, rtol=0, atol=0)
    assert twin.weights_hash() == upstream.weights_hash() and twin.fingerprint() == upstream.fingerprint()
    with pytest.raises(ValueError, match="describes .* weights, its file holds 10"):
        build_upstream(upstream.spec(), num_weights=10)


def test_it_learns_whole_and_has_nothing_for_adapters(upstream: VideoUpstream) -> None:
    with pytest.raises(ValueError, match="no linear layers in its blocks that LoRA could adapt"):
        add_lora(upstream, rank=2, alpha=2, dropout=0.0)
    upstream.requires_grad_(False)
    finetune(upstream)
    upstream(WaveBatch.collate([clip(640, 1), clip(640, 2, seen=False)], RATE)).states.sum().backward()
    assert all(weight.grad is not None for weight in upstream.parameters())


def test_the_geometry_of_resnet_50() -> None:
    with torch.device("meta"):
        model = ResNetModel(ResNetConfig(**ARCHITECTURES["resnet-50"][1]))
        upstream = VideoUpstream(model, "resnet-50")
        assert upstream._features(torch.empty(2, 96, 96, 3, dtype=torch.uint8)).shape == (2, 2048)
    assert upstream.hidden_size == 2048 and sum(weight.numel() for weight in model.parameters()) == 23_508_032


@torch.no_grad()
def test_beside_a_stream_of_sound(upstream: VideoUpstream, tiny: Callable[[str], Path]) -> None:
    streams = Streams({"waveform": load_upstream("waveform"), "video": upstream}).eval()
    batch = WaveBatch.collate([clip(2000, 1), clip(900, 2)], RATE)
    found = streams(batch).streams
    assert streams.sees and torch.equal(found["video"].states, upstream(batch).states)
    assert found["waveform"].lengths.tolist() == found["video"].lengths.tolist() == [4, 2]
