"""Dense layers that a ladder can corrupt and reconstruct: batch norm without affine, then scale, shift and ReLU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from undertone.downstream.norms import InputNorm, MaskedBatchNorm


class DenseLayer(nn.Module):
    """h -> z = norm(W h) -> ReLU(gamma (z + beta)), the encoder layer of Rasmus et al. 2015 (1507.02672, eq. 2)."""

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, output_size, bias=False)
        self.norm = MaskedBatchNorm(output_size, affine=False)
        self.gamma = nn.Parameter(torch.ones(output_size))
        self.beta = nn.Parameter(torch.zeros(output_size))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and (B, T) -> (B, T, H)."""
        z: Tensor = self.norm(self.linear(hidden), mask)  # (B, T, H)
        return (self.gamma * (z + self.beta)).relu()


class DenseLayers(nn.Module):
    """Standardised features, with dropout, through several dense layers, frame by frame."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be >= 1, got {num_layers}; without hidden layers take head=linear.")
        sizes = [input_size] + [hidden_size] * num_layers
        self.norm = InputNorm(input_size)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(DenseLayer(*pair) for pair in zip(sizes, sizes[1:], strict=False))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and (B, T) -> (B, T, H)."""
        hidden: Tensor = self.dropout(self.norm(features, mask))
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return hidden
