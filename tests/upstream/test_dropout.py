"""Dropout masks of utterances: the same alone, in a batch, padded, in another batch, and in a repeated pass."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from undertone.upstream.dropout import UtteranceDropout, batch_number, random_normal, repeated

KEYS = torch.tensor([7, -3, 2**31 - 1, 12345], dtype=torch.int32)


def drop(function, values: Tensor, keys: Tensor, step: int = 0, p: float = 0.3) -> Tensor:
    torch.manual_seed(step)
    with UtteranceDropout(keys):
        found: Tensor = function(values, p)
    return found


@pytest.mark.parametrize("function", [F.dropout, F.dropout1d], ids=["dropout", "dropout1d"])
def test_an_utterance_keeps_its_mask_in_another_batch_and_padded(function):
    values = torch.rand(4, 9, 7) + 0.5
    whole = drop(function, values, KEYS)
    for row in range(4):
        assert torch.equal(drop(function, values[row : row + 1, :, :5], KEYS[row : row + 1])[0], whole[row, :, :5])
    assert torch.equal(drop(function, values.flip(0), KEYS.flip(0)), whole.flip(0))
    if function is F.dropout:  # along the frames as well: (B, T, D)
        assert torch.equal(drop(function, values[1:2, :4], KEYS[1:2])[0], whole[1, :4])
    assert not torch.equal(drop(function, values, KEYS, step=1), whole)
    assert not torch.equal(whole[0] == 0, whole[1] == 0)
    kept = whole != 0
    torch.testing.assert_close(whole[kept], values[kept] / 0.7, rtol=1e-4, atol=0)


def test_whole_channels_are_dropped():
    dropped = drop(F.dropout1d, torch.ones(4, 50, 6), KEYS) == 0  # (B, C, T)
    assert dropped.any() and torch.equal(dropped.any(2), dropped.all(2))


def test_masks_look_random():
    """Five standard errors, of a test that is the same every time."""
    chance, ones = 0.2, torch.ones(4, 200, 300)
    zeros = (drop(F.dropout, ones, KEYS, p=chance) == 0).double()
    assert abs(zeros.mean() - chance) < 5 * math.sqrt(chance * (1 - chance) / zeros.numel())
    centred = (zeros - chance) / math.sqrt(chance * (1 - chance))
    for axis in range(3):
        pairs = centred.narrow(axis, 0, ones.shape[axis] - 1) * centred.narrow(axis, 1, ones.shape[axis] - 1)
        assert abs(pairs.mean()) < 5 / math.sqrt(pairs.numel()), axis
    square = centred[:, :-1, :-1] * centred[:, 1:, :-1] * centred[:, :-1, 1:] * centred[:, 1:, 1:]
    assert abs(square.mean()) < 5 / math.sqrt(square.numel())


def test_noise_is_normal_and_an_utterances_own():
    torch.manual_seed(0)
    like = torch.empty(4, 100, 50)
    with UtteranceDropout(KEYS):
        noise = torch.randn_like(like)
    assert abs(noise.mean()) < 0.04 and abs(noise.std() - 1) < 0.03 and abs((noise**4).mean() - 3) < 0.2
    torch.manual_seed(0)
    with UtteranceDropout(KEYS[2:3]):
        assert torch.equal(torch.randn_like(like[:1, :20])[0], noise[2, :20])
    generator = torch.Generator().manual_seed(3)
    plain = random_normal(like, generator)  # outside: torch's own
    assert torch.equal(plain, torch.randn(like.shape, generator=generator.manual_seed(3)))


def test_attention_weights_are_dropped_as_by_hand():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 4, 2, 6, 5).unbind(0)  # (B, heads, T, D)
    mask = torch.ones(4, 1, 6, 6, dtype=torch.bool)
    mask[1, ..., 4:] = False  # two frames of padding
    with UtteranceDropout(KEYS):
        plain = F.scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(plain, F.scaled_dot_product_attention(query, key, value, mask))

    def attend(values: Tensor, p: float, rows: slice = slice(None), frames: int = 6) -> Tensor:
        part = (slice(None), slice(None), slice(0, frames))
        bias = mask[rows, :, :frames, :frames]
        return F.scaled_dot_product_attention(query[rows][part], key[rows][part], values[rows][part], bias, p)

    whole = drop(attend, value, KEYS)
    weights = (query @ key.mT / math.sqrt(5)).masked_fill(~mask, -math.inf).softmax(-1)
    torch.testing.assert_close(whole, drop(F.dropout, weights, KEYS) @ value)
    alone = drop(lambda values, p: attend(values, p, slice(1, 2), 4), value, KEYS[1:2])
    torch.testing.assert_close(alone[0], whole[1, :, :4])


def test_a_repeated_pass_in_the_backward_pass_finds_its_masks():
    """Gradient checkpointing, also of the second of two batches."""
    layer, values = nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.5)), torch.randn(4, 3, 5)

    def gradient(repeat: bool) -> Tensor:
        layer.zero_grad()
        torch.manual_seed(0)
        with UtteranceDropout(KEYS, KEYS[:2] + 1):
            total = torch.zeros(())
            for number, batch in enumerate((values, values[:2])):
                with batch_number(number):
                    out = checkpoint(layer, batch, use_reentrant=False, context_fn=repeated) if repeat else layer(batch)
                    total = total + (out**2).sum()
            total.backward()
        return layer[0].weight.grad.clone()

    assert torch.equal(gradient(repeat=True), gradient(repeat=False))


def test_what_is_no_batch_is_refused():
    with UtteranceDropout(KEYS), pytest.raises(ValueError, match="Dropout of 3 rows in a batch of 4 utterances"):
        F.dropout(torch.ones(3, 2), 0.5)
