"""Poolings against numbers worked by hand; padding holds garbage that must not count."""

import math

import pytest
import torch

from undertone.downstream.heads.ecapa import ChannelAttentionPooling
from undertone.downstream.pooling import (
    AttentiveStatisticsPooling,
    LearnedQueryPooling,
    MeanPooling,
    MultiHeadPooling,
    SelfAttentionPooling,
    StatisticsPooling,
    StructuredPooling,
)
from undertone.upstream.types import Frames

# Two clips of two features: frames (1, 2), (3, 6) and the single frame (5, -1); the rest is padding.
FRAMES = Frames(torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[5.0, -1.0], [999.0, -999.0]]]), torch.tensor([2, 1]))


def test_mean():
    pooled = MeanPooling(2)(FRAMES)
    torch.testing.assert_close(pooled.vector, torch.tensor([[2.0, 4.0], [5.0, -1.0]]))
    assert pooled.attention is None


def test_statistics():
    pooled = StatisticsPooling(2)(FRAMES).vector
    eps = math.sqrt(1e-5)
    expected = torch.tensor([[2.0, 4.0, math.sqrt(1 + 1e-5), math.sqrt(4 + 1e-5)], [5.0, -1.0, eps, eps]])
    torch.testing.assert_close(pooled, expected)


def test_statistics_of_one_frame_has_a_finite_gradient():
    features = torch.ones(1, 1, 2, requires_grad=True)
    StatisticsPooling(2)(Frames(features, torch.tensor([1]))).vector.sum().backward()
    assert features.grad is not None and features.grad.isfinite().all()


def softmax(*scores: float) -> list[float]:
    exponentials = [math.exp(score) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def test_self_attention():
    pooling = SelfAttentionPooling(2, attention_size=1)
    set_score(pooling)
    pooled = pooling(FRAMES)
    first, second = softmax(2 * math.tanh(0.5 * 1 + 0.1), 2 * math.tanh(0.5 * 3 + 0.1))
    torch.testing.assert_close(pooled.attention, torch.tensor([[first, second], [1.0, 0.0]]))
    torch.testing.assert_close(
        pooled.vector, torch.tensor([[first * 1 + second * 3, first * 2 + second * 6], [5.0, -1.0]])
    )


def set_score(pooling) -> None:
    """e_t = 2 tanh(0.5 h_t1 + 0.1)."""
    pooling.score[0].weight.data, pooling.score[0].bias.data = torch.tensor([[0.5, 0.0]]), torch.tensor([0.1])
    pooling.score[2].weight.data = torch.tensor([[2.0]])


def test_attentive_statistics():
    pooling = AttentiveStatisticsPooling(2, attention_size=1)
    set_score(pooling)
    pooled = pooling(FRAMES)
    first, second = softmax(2 * math.tanh(0.5 * 1 + 0.1), 2 * math.tanh(0.5 * 3 + 0.1))
    means = [first * 1 + second * 3, first * 2 + second * 6]
    # Okabe's form: sum of a h^2, less the squared mean.
    variances = [first * 1 + second * 9 - means[0] ** 2, first * 4 + second * 36 - means[1] ** 2]
    deviations = [math.sqrt(variance + 1e-5) for variance in variances]
    eps = math.sqrt(1e-5)
    torch.testing.assert_close(pooled.vector, torch.tensor([[*means, *deviations], [5.0, -1.0, eps, eps]]))
    torch.testing.assert_close(pooled.attention, torch.tensor([[first, second], [1.0, 0.0]]))


def test_attentive_statistics_with_equal_scores_are_statistics():
    pooling = AttentiveStatisticsPooling(2)
    pooling.score[2].weight.data.zero_()
    torch.testing.assert_close(pooling(FRAMES).vector, StatisticsPooling(2)(FRAMES).vector)


def test_multihead_gives_each_head_its_part_of_the_features():
    pooling = MultiHeadPooling(2, num_heads=2)
    pooling.queries.data = torch.tensor([[0.5], [-0.25]])
    pooled = pooling(FRAMES)  # one feature a head, so the scores' divisor is 1
    left, right = softmax(0.5 * 1, 0.5 * 3), softmax(-0.25 * 2, -0.25 * 6)
    expected = [left[0] * 1 + left[1] * 3, right[0] * 2 + right[1] * 6]
    torch.testing.assert_close(pooled.vector, torch.tensor([expected, [5.0, -1.0]]))
    average = [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2]
    torch.testing.assert_close(pooled.attention, torch.tensor([average, [1.0, 0.0]]))


def test_one_head_is_scaled_dot_product_attention():
    torch.manual_seed(0)
    pooling = MultiHeadPooling(6, num_heads=1)
    features = torch.randn(1, 5, 6)
    expected = torch.nn.functional.scaled_dot_product_attention(pooling.queries[None], features, features)[:, 0]
    torch.testing.assert_close(pooling(Frames(features, torch.tensor([5]))).vector, expected)


def test_learned_queries_are_multi_head_attention_worked_out_head_by_head():
    torch.manual_seed(0)
    pooling, frames = LearnedQueryPooling(4, num_heads=2, num_queries=3), torch.randn(5, 4)
    weights, biases = pooling.attention.in_proj_weight.chunk(3), pooling.attention.in_proj_bias.chunk(3)
    query, key, value = (
        x @ w.T + b for x, w, b in zip((pooling.queries, frames, frames), weights, biases, strict=True)
    )
    heads, attentions = [], []
    for part in (slice(0, 2), slice(2, 4)):
        attentions.append((query[:, part] @ key[:, part].T / math.sqrt(2)).softmax(-1))  # (3, 5)
        heads.append(attentions[-1] @ value[:, part])
    projection = pooling.attention.out_proj
    expected = torch.cat(heads, dim=1) @ projection.weight.T + projection.bias
    pooled = pooling(Frames(frames[None], torch.tensor([5])))
    torch.testing.assert_close(pooled.vector, expected.reshape(1, 12))
    torch.testing.assert_close(pooled.attention[0], torch.stack(attentions).mean((0, 1)))


def test_structured_attention_and_its_penalty():
    pooling = StructuredPooling(2, num_rows=2, penalty=0.5, attention_size=1)
    pooling.score[0].weight.data = torch.tensor([[0.5, 0.0]])
    pooling.score[2].weight.data = torch.tensor([[2.0], [-1.0]])
    pooled = pooling(FRAMES)
    low, high = math.tanh(0.5), math.tanh(1.5)
    first, second = softmax(2 * low, 2 * high), softmax(-low, -high)
    rows = [[a[0] * 1 + a[1] * 3, a[0] * 2 + a[1] * 6] for a in (first, second)]
    torch.testing.assert_close(pooled.vector, torch.tensor([[*rows[0], *rows[1]], [5.0, -1.0, 5.0, -1.0]]))
    own = [a[0] ** 2 + a[1] ** 2 - 1 for a in (first, second)]
    shared = first[0] * second[0] + first[1] * second[1]
    # The clip of one frame: A A' is all ones, less I leaves two ones.
    expected = 0.5 * (own[0] ** 2 + own[1] ** 2 + 2 * shared**2 + 2)
    total, count = pooled.losses["overlap"]
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert int(count) == 2


def test_channel_attention_scores_each_channel_in_its_context():
    pooling = ChannelAttentionPooling(2, attention_size=1).eval()
    pooling.context.weight.data = torch.tensor([[0.1, 0.0, 0.2, 0.0, 0.0, 0.3]])  # h_1, mean_1 and deviation_2
    pooling.context.bias.data = torch.tensor([-0.5])
    pooling.norm.running_mean, pooling.norm.running_var = torch.tensor([0.5]), torch.tensor([4.0])
    pooling.score.weight.data = torch.tensor([[1.0], [-2.0]])
    pooled = pooling(FRAMES)
    constant = 0.2 * 2 + 0.3 * math.sqrt(4 + 1e-5) - 0.5
    hidden = [math.tanh((0.1 * h + constant - 0.5) / math.sqrt(4 + 1e-5)) for h in (1, 3)]
    left, right = softmax(*hidden), softmax(*(-2 * value for value in hidden))
    means = [left[0] * 1 + left[1] * 3, right[0] * 2 + right[1] * 6]
    variances = [left[0] * 1 + left[1] * 9 - means[0] ** 2, right[0] * 4 + right[1] * 36 - means[1] ** 2]
    expected = [*means, *(math.sqrt(variance + 1e-5) for variance in variances)]
    torch.testing.assert_close(pooled.vector[0], torch.tensor(expected))
    torch.testing.assert_close(pooled.vector[1, :2], torch.tensor([5.0, -1.0]))


@pytest.mark.parametrize(
    "pooling_class",
    [
        MeanPooling,
        StatisticsPooling,
        SelfAttentionPooling,
        AttentiveStatisticsPooling,
        MultiHeadPooling,
        LearnedQueryPooling,
        StructuredPooling,
        ChannelAttentionPooling,
    ],
)
def test_padding_never_counts_even_when_it_is_not_finite(pooling_class):
    torch.manual_seed(0)
    pooling = pooling_class(4).eval()
    alone = torch.randn(1, 3, 4, requires_grad=True)
    spoilt = torch.cat([alone.detach(), torch.full((1, 2, 4), torch.nan)], dim=1).requires_grad_()
    expected = pooling(Frames(alone, torch.tensor([3])))
    found = pooling(Frames(spoilt, torch.tensor([3])))
    torch.testing.assert_close(found.vector, expected.vector)
    assert found.vector.shape == (1, pooling.output_size)
    expected.vector.square().sum().backward()
    found.vector.square().sum().backward()
    torch.testing.assert_close(spoilt.grad[:, :3], alone.grad)
    assert torch.equal(spoilt.grad[:, 3:], torch.zeros(1, 2, 4))
