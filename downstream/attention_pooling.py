"""Poolings that learn which frames count. All take frames (B, T, D); h_t is frame t of D features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from undertone.downstream.pooling import Pooled, masked_attention, weighted_statistics, zero_padding
from undertone.upstream.types import Frames


class SelfAttentionPooling(nn.Module):
    """Self-attentive pooling: e_t = v' tanh(W h_t + b), a = softmax(e) over the real frames, sum of a_t h_t.

    One head of Lin et al. 2017 (arXiv 1703.03130, eq. 5-7), with a bias.

    Args:
        input_size: D.
        attention_size: rows of W.
    """

    def __init__(self, input_size: int, attention_size: int = 128) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(input_size, attention_size), nn.Tanh(), nn.Linear(attention_size, 1, bias=False)
        )
        self.output_size = input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, D)."""
        features = zero_padding(frames)
        attention = masked_attention(self.score(features).squeeze(-1), frames)  # (B, T)
        return Pooled(torch.einsum("bt,btd->bd", attention, features), attention)


class AttentiveStatisticsPooling(nn.Module):
    """Attentive statistics: the mean and the standard deviation of the frames under one attention.

    Okabe et al. 2018 (arXiv 1803.10963, eq. 4-7): e_t = v' tanh(W h_t + b) + k; the k, which no softmax sees, is left
    out. With equal scores it is `StatisticsPooling`.

    Args:
        input_size: D.
        attention_size: rows of W.
    """

    def __init__(self, input_size: int, attention_size: int = 128) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(input_size, attention_size), nn.Tanh(), nn.Linear(attention_size, 1, bias=False)
        )
        self.output_size = 2 * input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, 2 D)."""
        features = zero_padding(frames)
        attention = masked_attention(self.score(features), frames)  # (B, T, 1)
        return Pooled(weighted_statistics(attention, features), attention.squeeze(-1))


class MultiHeadPooling(nn.Module):
    """Split multi-head attention pooling: each of K heads attends with its own D / K features.

    India, Safari & Hernando 2019 (arXiv 1906.09890): w_tj = softmax_t(<h_t^(j), q_j> / sqrt(D / K)) with learned q_j,
    and the K weighted sums of h_t^(j) side by side.

    Args:
        input_size: D, a multiple of `num_heads`.
        num_heads: K.
    """

    def __init__(self, input_size: int, num_heads: int = 4) -> None:
        super().__init__()
        _check_heads(input_size, num_heads)
        self.queries = nn.Parameter(torch.randn(num_heads, input_size // num_heads))
        self.output_size = input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, D)."""
        num_heads, width = self.queries.shape
        features = zero_padding(frames).unflatten(-1, (num_heads, width))  # (B, T, K, D / K)
        scores = torch.einsum("btkd,kd->btk", features, self.queries) / math.sqrt(width)
        attention = masked_attention(scores, frames)  # (B, T, K)
        vector = torch.einsum("btk,btkd->bkd", attention, features).flatten(1)  # (B, D)
        return Pooled(vector, attention.mean(-1))


class LearnedQueryPooling(nn.Module):
    """Learned queries attend to the frames by multi-head attention, MHA(Q, H, H) of Vaswani et al. 2017.

    The seed vectors of Lee et al. 2019 (Set Transformer, arXiv 1810.00825, section 3.2) without the feed-forward part.

    Args:
        input_size: D, a multiple of `num_heads`.
        num_heads: heads of the attention.
        num_queries: r rows of Q.
    """

    def __init__(self, input_size: int, num_heads: int = 4, num_queries: int = 1) -> None:
        super().__init__()
        _check_heads(input_size, num_heads)
        self.queries = nn.Parameter(torch.randn(num_queries, input_size))
        self.attention = nn.MultiheadAttention(input_size, num_heads, batch_first=True)
        self.output_size = num_queries * input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, r D)."""
        features = zero_padding(frames)
        queries = self.queries.expand(len(features), -1, -1)  # (B, r, D)
        rows, attention = self.attention(queries, features, features, key_padding_mask=~frames.mask)
        return Pooled(rows.flatten(1), attention.mean(1))  # attention (B, r, T): averaged over the heads, then the rows


class StructuredPooling(nn.Module):
    """Structured self-attention: r attentions, kept apart by a penalty on their overlap.

    Lin et al. 2017 (arXiv 1703.03130, eq. 6-8): A = softmax_t(W2 tanh(W1 H')), no biases; M = A H, its r rows side by
    side; penalty ||A A' - I||_F^2, squared, an utterance.

    Args:
        input_size: D.
        num_rows: r.
        penalty: factor of the overlap's loss; the paper's range is 0 to 1.
        attention_size: rows of W1.
    """

    def __init__(self, input_size: int, num_rows: int = 4, penalty: float = 0.3, attention_size: int = 128) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(input_size, attention_size, bias=False),
            nn.Tanh(),
            nn.Linear(attention_size, num_rows, bias=False),
        )
        self.penalty = penalty
        self.output_size = num_rows * input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, r D), and the loss `overlap`."""
        features = zero_padding(frames)
        attention = masked_attention(self.score(features), frames)  # (B, T, r)
        rows = torch.einsum("btr,btd->brd", attention, features)  # (B, r, D)
        return Pooled(rows.flatten(1), attention.mean(-1), {"overlap": self._overlap(attention)})

    def _overlap(self, attention: Tensor) -> tuple[Tensor, Tensor]:
        num_utterances, _, num_rows = attention.shape
        products = torch.einsum("btr,bts->brs", attention, attention)  # (B, r, r)
        distance = (products - torch.eye(num_rows, device=products.device)) ** 2
        return self.penalty * distance.sum(), torch.tensor(num_utterances, device=products.device)


def _check_heads(input_size: int, num_heads: int) -> None:
    if num_heads < 1 or input_size % num_heads:
        raise ValueError(f"num_heads must divide the {input_size} features that are pooled, got {num_heads}.")
