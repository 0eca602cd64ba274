"""Promise 1: an utterance's hidden states do not depend on what shares its batch."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel

from undertone.common.discovery import available
from undertone.upstream import Upstream, WaveBatch, load_upstream
from undertone.upstream.hf.random_weights import ARCHITECTURES

RATE = 16_000
SECONDS = (0.05, 3.0, 0.1, 8.0, 0.0249, 1.0, 0.01)
NAMES = available("undertone.upstream.acoustic", Upstream) + [
    name for name in ARCHITECTURES if name.startswith("tiny-")
]


def noise(num_samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (0.05 + 0.03 * seed) * torch.randn(num_samples, generator=generator) + 0.02


def mixed_waves() -> list[torch.Tensor]:
    return [noise(int(seconds * RATE), seed) for seed, seconds in enumerate(SECONDS)]


@pytest.fixture(params=NAMES)
def upstream(request, tiny) -> Upstream:
    if request.param in ("compare2016", "egemaps"):
        pytest.importorskip("opensmile", reason="needs the extra opensmile")
    upstream = load_upstream(str(tiny(request.param)) if request.param.startswith("tiny-") else request.param)
    for module in upstream.modules():
        if isinstance(module, torch.nn.BatchNorm1d):  # as if trained: it does not map zero to zero
            torch.nn.init.constant_(module.bias, 0.3)
    return upstream


@torch.inference_mode()
def test_alone_or_padded_in_a_batch(upstream: Upstream) -> None:
    waves = mixed_waves()
    batch = upstream(WaveBatch.collate(waves, RATE))
    for wave, states, length in zip(waves, batch.states, batch.lengths.tolist(), strict=True):
        alone = upstream(WaveBatch.collate([wave], RATE))
        assert alone.lengths.tolist() == [length] and alone.states.shape[2] == length
        torch.testing.assert_close(states[:, :length], alone.states[0], rtol=0, atol=1e-5)
        assert not states[:, length:].any(), "padding frames are zero"


@torch.inference_mode()
def test_more_padding_than_any_utterance_needs(upstream: Upstream) -> None:
    wave = noise(RATE, 1)
    alone = upstream(WaveBatch.collate([wave], RATE))
    padded = WaveBatch(torch.nn.functional.pad(wave, (0, 7777))[None], torch.tensor([RATE]), RATE)
    length = int(alone.lengths)
    torch.testing.assert_close(upstream(padded).states[:, :, :length], alone.states, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_frame_lengths_are_those_of_the_states(upstream: Upstream) -> None:
    for num_samples in (1, 399, 400, 719, 720, 16_000, 16_001):
        output = upstream(WaveBatch.collate([noise(num_samples)], RATE))
        expected = upstream.frame_lengths(torch.tensor([num_samples]))
        assert output.lengths.tolist() == expected.tolist() == [output.states.shape[2]]
        assert output.states.shape == (1, upstream.num_layers, int(expected), upstream.hidden_size)
        assert torch.isfinite(output.states).all()


@torch.inference_mode()
def test_one_forward_a_batch(tiny) -> None:
    upstream = load_upstream(str(tiny("tiny-wav2vec2")))
    calls = []
    upstream.model.register_forward_hook(lambda *_: calls.append(1))
    upstream(WaveBatch.collate(mixed_waves(), RATE))
    assert len(calls) == 1


@pytest.mark.parametrize("architecture", ["tiny-wav2vec2", "tiny-hubert", "tiny-wavlm", "tiny-hubert-batch"])
@torch.inference_mode()
def test_plain_transformers_differs_so_these_tests_can_fail(architecture: str, tiny) -> None:
    model = AutoModel.from_pretrained(tiny(architecture))
    short, long = noise(8000, 1), noise(32_000, 2)
    alone = model(short[None]).last_hidden_state
    batch = WaveBatch.collate([short, long], RATE)
    mask = (torch.arange(32_000)[None] < batch.lengths[:, None]).long()
    padded = model(batch.samples, attention_mask=mask).last_hidden_state[:1, : alone.shape[1]]
    assert (padded - alone).norm() / alone.norm() > 0.01


def test_gradients_reach_the_feature_extractor_and_only_from_real_frames(tiny) -> None:
    upstream = load_upstream(str(tiny("tiny-wav2vec2")))
    short, long = noise(4000, 1), noise(9000, 2)
    norm = upstream.model.feature_extractor.conv_layers[0].layer_norm
    output = upstream(WaveBatch.collate([short, long], RATE))
    factors = torch.randn(output.states.shape[1:], generator=torch.Generator().manual_seed(0))
    (output.states[0] * factors).sum().backward()
    padded = norm.weight.grad.clone()
    upstream.zero_grad()
    alone = upstream(WaveBatch.collate([short], RATE)).states[0]
    (alone * factors[:, : alone.shape[1]]).sum().backward()
    assert padded.norm() > 0
    torch.testing.assert_close(padded, norm.weight.grad, rtol=1e-4, atol=1e-4 * float(padded.norm()))


def test_another_sample_rate_is_refused(upstream: Upstream) -> None:
    with pytest.raises(ValueError, match="expects 16000 Hz, got 8000 Hz. Read the file with read_audio"):
        upstream(WaveBatch.collate([noise(8000, 0)], 8000))
