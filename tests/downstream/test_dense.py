"""The layers of the dense heads."""

from __future__ import annotations

import torch

from undertone.downstream.dense_layers import DenseLayer


def test_a_dense_layer_by_hand() -> None:
    layer = DenseLayer(1, 1)
    layer.linear.weight.data.fill_(2.0)
    layer.gamma.data.fill_(3.0)
    layer.beta.data.fill_(0.5)
    found = layer(torch.tensor([[[1.0]], [[3.0]]]), torch.ones(2, 1, dtype=torch.bool))  # z is -1 and 1
    torch.testing.assert_close(found, torch.tensor([[[0.0]], [[4.5]]]), atol=1e-4, rtol=0)
