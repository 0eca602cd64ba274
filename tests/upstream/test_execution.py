from __future__ import annotations

import pytest
import torch

from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.hf.random_weights import ARCHITECTURES
from undertone.upstream.linear_layers import packed

TINY = [name for name in ARCHITECTURES if name.startswith("tiny")]


@pytest.mark.parametrize("architecture", TINY)
def test_packed_weights_give_the_same_states(tiny, architecture: str) -> None:
    upstream = load_upstream(str(tiny(architecture))).eval()
    wave = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    batch = WaveBatch.collate([wave, wave[:9000]], 16_000)
    with torch.no_grad():
        expected = upstream(batch).states
    with packed(upstream):
        got = upstream(batch).states
    assert got.is_inference()
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_what_is_packed_is_put_back_after_an_error(tiny) -> None:
    upstream = load_upstream(str(tiny("tiny-wav2vec2"))).eval()
    layers = [layer for layer in upstream.modules() if type(layer) is torch.nn.Linear]
    with pytest.raises(RuntimeError, match="stop"), packed(upstream):
        assert all("forward" in vars(layer) for layer in layers)
        raise RuntimeError("stop")
    assert not any("forward" in vars(layer) for layer in layers) and not torch.is_inference_mode_enabled()
