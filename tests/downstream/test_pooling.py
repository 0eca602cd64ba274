"""Poolings against numbers worked by hand; padding holds garbage that must not count."""

import math

import pytest
import torch

from undertone.downstream.pooling import MeanPooling, SelfAttentionPooling, StatisticsPooling
from undertone.upstream.types import Frames

# Two clips of two features: frames (1, 2), (3, 6) and the single frame (5, -1); the rest is padding.
FRAMES = Frames(torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[5.0, -1.0], [999.0, -999.0]]]), torch.tensor([2, 1]))


def test_mean():
    pooled, attention = MeanPooling(2)(FRAMES)
    torch.testing.assert_close(pooled, torch.tensor([[2.0, 4.0], [5.0, -1.0]]))
    assert attention is None


def test_statistics():
    pooled, _ = StatisticsPooling(2)(FRAMES)
    eps = math.sqrt(1e-5)
    expected = torch.tensor([[2.0, 4.0, math.sqrt(1 + 1e-5), math.sqrt(4 + 1e-5)], [5.0, -1.0, eps, eps]])
    torch.testing.assert_close(pooled, expected)


def test_statistics_of_one_frame_has_a_finite_gradient():
    features = torch.ones(1, 1, 2, requires_grad=True)
    StatisticsPooling(2)(Frames(features, torch.tensor([1])))[0].sum().backward()
    assert features.grad is not None and features.grad.isfinite().all()


def test_self_attention():
    pooling = SelfAttentionPooling(2, attention_size=1)
    pooling.score[0].weight.data, pooling.score[0].bias.data = torch.tensor([[0.5, 0.0]]), torch.tensor([0.1])
    pooling.score[2].weight.data = torch.tensor([[2.0]])
    pooled, attention = pooling(FRAMES)
    scores = [2 * math.tanh(0.5 * 1 + 0.1), 2 * math.tanh(0.5 * 3 + 0.1)]
    first = math.exp(scores[0]) / (math.exp(scores[0]) + math.exp(scores[1]))
    expected = [first * 1 + (1 - first) * 3, first * 2 + (1 - first) * 6]
    torch.testing.assert_close(attention, torch.tensor([[first, 1 - first], [1.0, 0.0]]))
    torch.testing.assert_close(pooled, torch.tensor([expected, [5.0, -1.0]]))


@pytest.mark.parametrize("pooling_class", [MeanPooling, StatisticsPooling, SelfAttentionPooling])
def test_padding_never_counts_even_when_it_is_not_finite(pooling_class):
    torch.manual_seed(0)
    pooling = pooling_class(2)
    alone = Frames(FRAMES.features[1:, :1], torch.tensor([1]))
    spoilt = FRAMES.features.clone()
    spoilt[1, 1] = torch.nan if pooling_class is MeanPooling else 1e9
    torch.testing.assert_close(pooling(Frames(spoilt, FRAMES.lengths))[0][1:], pooling(alone)[0])
    assert pooling(FRAMES)[0].shape[-1] == pooling.output_size
