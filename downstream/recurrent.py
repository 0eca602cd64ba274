"""A recurrent layer for padded batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from undertone.downstream.pooling import Pooled, zero_padding
from undertone.upstream.types import Frames


class BiLstm(nn.Module):
    """Bidirectional LSTM (Schuster & Paliwal 1997) over the real frames; nothing of a batch changes an utterance.

    The backward direction reads each utterance reversed within its own length: exact as a packed sequence, but twice
    as fast on a CPU, and it can be exported to ONNX.

    Args:
        input_size: D.
        hidden_size: H, units of a direction.
        num_layers: how many, each over the one before.
        dropout: of the input of every layer but the first.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        sizes = [input_size] + [2 * hidden_size] * (num_layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(size, hidden_size, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(nn.LSTM(size, hidden_size, batch_first=True) for size in sizes)
        self.dropout = nn.Dropout(dropout)
        self.output_size = 2 * hidden_size

    def forward(self, frames: Frames) -> Frames:
        """(B, T, D) -> (B, T, 2 H), the forward direction first."""
        order = _reversed(frames)  # (B, T)
        features = zero_padding(frames)
        for number, (forwards, backwards) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            features = self.dropout(features) if number else features
            onward, _ = forwards(features)  # (B, T, H)
            back, _ = backwards(_pick(features, order))
            features = torch.cat([onward, _pick(back, order)], dim=-1)  # (B, T, 2 H)
        return Frames(features, frames.lengths)


class LastStatePooling(nn.Module):
    """Where both directions of a bidirectional LSTM end: forwards the last real frame, backwards the first one.

    Args:
        input_size: 2 H, the forward direction first.
    """

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, 2 H) -> (B, 2 H)."""
        onward, back = frames.features.chunk(2, dim=-1)  # (B, T, H)
        last = _pick(onward, frames.lengths[:, None] - 1)[:, 0]  # (B, H)
        return Pooled(torch.cat([last, back[:, 0]], dim=-1))


def _reversed(frames: Frames) -> Tensor:
    """(B, T) positions that read each utterance from its end; padding stays where it is."""
    positions = torch.arange(frames.features.shape[1], device=frames.features.device)  # (T,)
    return torch.where(frames.mask, frames.lengths[:, None] - 1 - positions, positions)


def _pick(features: Tensor, positions: Tensor) -> Tensor:
    """(B, T, D) at (B, P) positions -> (B, P, D)."""
    return features.gather(1, positions.unsqueeze(-1).expand(-1, -1, features.shape[-1]))
