"""Top blocks on stored states against the whole upstream: the same states and the same gradients."""

import pytest
import torch

from undertone.upstream import WaveBatch, load_upstream
from undertone.upstream.hf.adapt import finetune
from undertone.upstream.hf.random_weights import ARCHITECTURES, save_random
from undertone.upstream.hf.replay import can_replay, replay_top

TINY = [name for name in ARCHITECTURES if name.startswith("tiny-")]


@pytest.mark.parametrize("name", TINY)
def test_replayed_states_and_gradients_are_those_of_the_whole(name, tmp_path):
    upstream = load_upstream(str(save_random(name, tmp_path / name)))
    top = upstream.num_layers - 2
    assert not can_replay(upstream, top + 1)  # no prefix is left
    if not can_replay(upstream, top):
        assert name in {"tiny-sew", "tiny-sew-d", "tiny-whisper", "tiny-w2v-bert", "tiny-lasr"}
        return
    generator = torch.Generator().manual_seed(0)
    batch = WaveBatch.collate([torch.randn(n, generator=generator) for n in (9000, 400, 5001)], 16000)
    finetune(upstream, top_layers=top)
    whole = upstream(batch)
    with torch.no_grad():
        stored = upstream(batch)
    replayed = replay_top(upstream, stored, top)
    torch.testing.assert_close(replayed.states, whole.states, atol=1e-5, rtol=0)
    learning = [weight for weight in upstream.parameters() if weight.requires_grad]
    expected = torch.autograd.grad(whole.states[:, -top:].square().sum(), learning, allow_unused=True)
    found = torch.autograd.grad(replayed.states[:, -top:].square().sum(), learning, allow_unused=True)
    for first, second in zip(found, expected, strict=True):
        assert (first is None) == (second is None)
        if first is not None:
            torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


def test_afterwards_the_upstream_computes_again(tmp_path):
    upstream = load_upstream(str(save_random("tiny-wavlm", tmp_path / "x")))
    batch = WaveBatch.collate([torch.randn(6000)], 16000)
    with torch.no_grad():
        before = upstream(batch)
        replay_top(upstream, before, 1)
        assert torch.equal(upstream(batch).states, before.states)
