"""Norms of a ladder's layers against torch's batch norm, and features of any magnitude."""

from __future__ import annotations

import torch

from undertone.downstream.dense_layers import DenseLayer, InputNorm, PlainNorm


def test_plain_norm_is_batch_norm_over_real_frames() -> None:
    generator = torch.Generator().manual_seed(0)
    features, mask = (
        3 * torch.randn(4, 7, 5, generator=generator) + 2,
        torch.arange(7) < torch.tensor([[7], [2], [5], [1]]),
    )
    ours, theirs = PlainNorm(5), torch.nn.BatchNorm1d(5, affine=False)
    for _ in range(3):
        found = ours(features.masked_fill(~mask.unsqueeze(-1), 99.0), mask)
        torch.testing.assert_close(found[mask], theirs(features[mask]), atol=1e-5, rtol=0)
        assert not found[~mask].any()
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(features, mask)[mask], theirs.eval()(features[mask]), atol=1e-5, rtol=0)


def test_a_single_frame_is_normalised_by_the_running_statistics() -> None:
    norm = PlainNorm(3)
    norm.running_mean.fill_(2.0)
    found = norm(torch.full((1, 1, 3), 3.0), torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(found, torch.full((1, 1, 3), 1.0), atol=1e-4, rtol=0)
    assert (norm.running_mean == 2).all()


def test_features_of_any_magnitude_are_standardised_and_constant_ones_are_nought() -> None:
    plain = torch.randn(50, 1, 4, generator=torch.Generator().manual_seed(0))
    features = plain * torch.tensor([1e-4, 1.0, 1e12, 0.0]) + torch.tensor([0.0, 100.0, 3e12, 1234.5])
    found = InputNorm(4)(features, torch.ones(50, 1, dtype=torch.bool))[:, 0]
    torch.testing.assert_close(found[:, :3].std(0, correction=0), torch.ones(3), atol=1e-3, rtol=0)
    assert found[:, 3].abs().max() < 0.05
    far = InputNorm(4).eval()(torch.full((1, 1, 4), -500.0), torch.ones(1, 1, dtype=torch.bool))
    assert (far == -10).all()


def test_a_dense_layer_by_hand() -> None:
    layer = DenseLayer(1, 1)
    layer.linear.weight.data.fill_(2.0)
    layer.gamma.data.fill_(3.0)
    layer.beta.data.fill_(0.5)
    found = layer(torch.tensor([[[1.0]], [[3.0]]]), torch.ones(2, 1, dtype=torch.bool))  # z is -1 and 1
    torch.testing.assert_close(found, torch.tensor([[[0.0]], [[4.5]]]), atol=1e-4, rtol=0)
