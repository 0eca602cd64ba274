"""Masked batch norm against torch's own, given the real frames alone; and features of any magnitude."""

import pytest
import torch

from undertone.downstream.norms import InputNorm, MaskedBatchNorm

FEATURES = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[True] * 4, [True, False, False, False], [True, True, False, False]])


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_is_batch_norm_of_the_real_frames_and_zero_elsewhere(training, affine):
    ours, reference = MaskedBatchNorm(2, affine), torch.nn.BatchNorm1d(2, affine=affine)
    for norm in (ours, reference):
        norm.running_mean, norm.running_var = torch.tensor([0.3, -1.0]), torch.tensor([2.0, 0.5])
        if affine:
            norm.weight.data, norm.bias.data = torch.tensor([1.5, -2.0]), torch.tensor([0.1, 0.2])
        norm.train(training)
    spoilt = FEATURES.masked_fill(~MASK.unsqueeze(-1), torch.nan)
    found = ours(spoilt, MASK)
    torch.testing.assert_close(found[MASK], reference(FEATURES[MASK]))
    assert torch.equal(found[~MASK], torch.zeros(5, 2))
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)


def test_a_single_frame_is_normalised_by_the_running_statistics():
    """torch's own raises here; the last batch of an epoch may hold one utterance."""
    norm = MaskedBatchNorm(2).train()
    norm.running_mean, norm.running_var = torch.tensor([1.0, 0.0]), torch.tensor([4.0, 1.0])
    mask = torch.tensor([[True, False]])
    found = norm(torch.tensor([[[3.0, 5.0], [9.0, 9.0]]]), mask)
    torch.testing.assert_close(found, torch.tensor([[[1.0, 5.0], [0.0, 0.0]]]), atol=1e-4, rtol=0)
    assert torch.equal(norm.running_mean, torch.tensor([1.0, 0.0]))


def test_features_of_any_magnitude_are_standardised_and_constant_ones_are_nought() -> None:
    plain = torch.randn(50, 1, 4, generator=torch.Generator().manual_seed(0))
    features = plain * torch.tensor([1e-4, 1.0, 1e12, 0.0]) + torch.tensor([0.0, 100.0, 3e12, 1234.5])
    found = InputNorm(4)(features, torch.ones(50, 1, dtype=torch.bool))[:, 0]
    torch.testing.assert_close(found[:, :3].std(0, correction=0), torch.ones(3), atol=1e-3, rtol=0)
    assert found[:, 3].abs().max() < 0.05
    far = InputNorm(4).eval()(torch.full((1, 1, 4), -500.0), torch.ones(1, 1, dtype=torch.bool))
    assert (far == -10).all()
