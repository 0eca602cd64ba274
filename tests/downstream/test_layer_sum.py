import pytest
import torch
from torch.nn import functional as F

from undertone.downstream.layer_sum import LayerSum
from undertone.upstream.types import HiddenStates


def hidden(seed: int = 0) -> HiddenStates:
    states = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    return HiddenStates(states, torch.tensor([4, 2]))


def test_starts_as_the_plain_mean_over_layers():
    torch.testing.assert_close(LayerSum(3)(hidden()).features, hidden().states.mean(1))


def test_weights_are_a_softmax_that_sums_to_one():
    layer_sum = LayerSum(3)
    layer_sum.logits.data = torch.tensor([0.0, 1.0, -2.0])
    weights = torch.tensor([1.0, torch.e, torch.e**-2])
    weights = weights / weights.sum()
    torch.testing.assert_close(layer_sum.layer_weights(), weights)
    expected = sum(weight * hidden().states[:, index] for index, weight in enumerate(weights))
    torch.testing.assert_close(layer_sum(hidden()).features, expected)


def test_normalize_gives_each_frame_of_each_layer_zero_mean_and_unit_variance():
    expected = torch.stack([F.layer_norm(hidden().states[:, layer], (5,)) for layer in range(3)]).mean(0)
    torch.testing.assert_close(LayerSum(3, normalize=True)(hidden()).features, expected)


def test_refuses_another_number_of_layers():
    with pytest.raises(ValueError, match="built for 13 layers, got states of 3"):
        LayerSum(13)(hidden())


def test_an_only_layer_is_taken_as_it_is_and_asks_for_no_gradient():
    layer_sum, states = LayerSum(1), torch.randn(2, 1, 3, 4)
    frames = layer_sum(HiddenStates(states, torch.tensor([3, 2])))
    assert torch.equal(frames.features, states[:, 0]) and not frames.features.requires_grad
    assert layer_sum.layer_weights().tolist() == [1] and not layer_sum.logits.requires_grad
