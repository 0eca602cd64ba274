import pytest
import torch
from torch.nn import functional as F

from undertone.downstream import layer_sum as layer_sums
from undertone.downstream.layer_sum import LayerSum
from undertone.upstream.types import HiddenStates, StoredStates


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_stored_states_are_summed_in_float32_with_the_gradient_of_the_plain_formula(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each utterance as it is stored, in pieces, under autocast too; zeros behind its end."""
    monkeypatch.setattr(layer_sums, "BLOCK", 3)
    generator = torch.Generator().manual_seed(1)
    rows = [(100 * torch.randn(4, frames, 5, generator=generator)).to(dtype) for frames in (7, 2, 3)]
    logits, push = torch.randn(4, generator=generator), torch.randn(3, 7, 5, generator=generator)
    layer_sum, wanted = LayerSum(4), logits.clone().requires_grad_()
    layer_sum.logits.data = logits.clone()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer_sum(StoredStates(rows))
        (found.features * push).sum().backward()
    padded = torch.zeros(3, 4, 7, 5)
    for place, row in enumerate(rows):
        padded[place, :, : row.shape[1]] = row
    plain = (wanted.softmax(0)[:, None, None] * padded).sum(1)
    (plain * push).sum().backward()
    assert found.features.dtype == torch.float32 and found.lengths.tolist() == [7, 2, 3]
    torch.testing.assert_close(found.features, plain)
    torch.testing.assert_close(layer_sum.logits.grad, wanted.grad, rtol=1e-5, atol=1e-4)
    assert torch.equal(StoredStates(rows).states.float(), padded)
    moved = StoredStates(rows).to("cpu")  # as a trainer does with every batch
    assert isinstance(moved, StoredStates) and all(map(torch.equal, moved.rows, rows)) and "states" not in vars(moved)


def test_a_stored_layer_and_normalised_states_come_out_in_float32() -> None:
    stored = StoredStates(hidden().states.half())
    selecting = LayerSum(3)
    selecting.select(0)
    for alone in (StoredStates(stored.states[:, :1]), HiddenStates(stored.states[:, :1], stored.lengths)):
        torch.testing.assert_close(selecting(alone).features, stored.states[:, 0].float(), rtol=0, atol=0)
    normalised = LayerSum(3, normalize=True)
    wanted = normalised(HiddenStates(stored.states.float(), stored.lengths)).features
    torch.testing.assert_close(normalised(stored).features, wanted, rtol=0, atol=0)


def test_an_only_layer_is_taken_as_it_is_and_asks_for_no_gradient():
    layer_sum, states = LayerSum(1), torch.randn(2, 1, 3, 4)
    frames = layer_sum(HiddenStates(states, torch.tensor([3, 2])))
    assert torch.equal(frames.features, states[:, 0]) and not frames.features.requires_grad
    assert layer_sum.layer_weights().tolist() == [1] and not layer_sum.logits.requires_grad
