"""Frames -> one vector: mean, statistics, attention, and several of these joined."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from undertone.common.discovery import nearest
from undertone.upstream.types import Frames


@dataclass(frozen=True)
class Pooled:
    """What a pooling returns."""

    vector: Tensor  # (B, P), P = the pooling's `output_size`
    # (B, T), the weight of each frame, averaged over the pooling's heads; it sums to 1 over the real frames and is zero
    # on padding. None where every frame counts alike
    attention: Tensor | None = None
    # {name: (sum (), count ())}, what the pooling wants minimised in addition to the tasks' losses
    losses: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


def zero_padding(frames: Frames) -> Tensor:
    """(B, T, D) features, exactly 0 on padding."""
    return frames.features.masked_fill(~frames.mask.unsqueeze(-1), 0)


def masked_mean(frames: Frames) -> Tensor:
    """(B, T, D) -> (B, D), the mean over each row's real frames."""
    total = zero_padding(frames).sum(1)  # (B, D)
    return total / frames.lengths.unsqueeze(-1).to(total.dtype)


def masked_attention(scores: Tensor, frames: Frames) -> Tensor:
    """(B, T) or (B, T, K) raw scores -> attention of that shape: softmax over the real frames, exactly 0 on padding."""
    mask = frames.mask if scores.ndim == 2 else frames.mask.unsqueeze(-1)
    return scores.masked_fill(~mask, -torch.inf).softmax(1)


def weighted_statistics(weights: Tensor, features: Tensor) -> Tensor:
    """[mean; standard deviation] under weights that sum to 1 over time.

    (B, T, 1) or (B, T, D) weights, 0 on padding, and (B, T, D) features -> (B, 2 D). The deviation is sqrt(sum_t w_t
    (h_t - mean)^2 + 1e-5): the gradient stays finite where it is 0.
    """
    mean = (weights * features).sum(1)  # (B, D)
    variance = (weights * (features - mean.unsqueeze(1)) ** 2).sum(1)  # (B, D)
    return torch.cat([mean, (variance + 1e-5).sqrt()], dim=-1)


class MeanPooling(nn.Module):
    """Mean over the real frames."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, D)."""
        return Pooled(masked_mean(frames))


class StatisticsPooling(nn.Module):
    """[mean; standard deviation] over the real frames (Snyder et al. 2017), with the biased variance and an eps."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = 2 * input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, 2 D)."""
        features = zero_padding(frames)
        weights = frames.mask.to(features.dtype) / frames.lengths.unsqueeze(-1)  # (B, T)
        return Pooled(weighted_statistics(weights.unsqueeze(-1), features))


# ---- Poolings that learn which frames count.
#
# All take frames (B, T, D): D is their `input_size`, h_t is frame t, and W has `attention_size` rows.


def _scores(input_size: int, attention_size: int, rows: int = 1, bias: bool = True) -> nn.Module:
    """h_t -> V tanh(W h_t + b), a score of each row of V."""
    first, last = nn.Linear(input_size, attention_size, bias), nn.Linear(attention_size, rows, bias=False)
    return nn.Sequential(first, nn.Tanh(), last)


class SelfAttentionPooling(nn.Module):
    """Self-attentive pooling: e_t = v' tanh(W h_t + b), a = softmax(e) over the real frames, sum of a_t h_t.

    One head of Lin et al. 2017 (arXiv 1703.03130, eq. 5-7), with a bias.
    """

    def __init__(self, input_size: int, attention_size: int = 128) -> None:
        super().__init__()
        self.score = _scores(input_size, attention_size)
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
    """

    def __init__(self, input_size: int, attention_size: int = 128) -> None:
        super().__init__()
        self.score = _scores(input_size, attention_size)
        self.output_size = 2 * input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, 2 D)."""
        features = zero_padding(frames)
        attention = masked_attention(self.score(features), frames)  # (B, T, 1)
        return Pooled(weighted_statistics(attention, features), attention.squeeze(-1))


class MultiHeadPooling(nn.Module):
    """Split multi-head attention pooling: each of K heads attends with its own D / K features.

    India, Safari & Hernando 2019 (arXiv 1906.09890): w_tj = softmax_t(<h_t^(j), q_j> / sqrt(D / K)) with learned q_j,
    and the K weighted sums of h_t^(j) side by side. K, `num_heads`, divides D.
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
    Q has r = `num_queries` rows.
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
    side; penalty ||A A' - I||_F^2, squared, an utterance; the paper's factors of it are 0 to 1.
    """

    def __init__(self, input_size: int, num_rows: int = 4, penalty: float = 0.3, attention_size: int = 128) -> None:
        super().__init__()
        self.score = _scores(input_size, attention_size, num_rows, bias=False)
        self.penalty = penalty
        self.output_size = num_rows * input_size

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, r D), and the loss `overlap`."""
        features = zero_padding(frames)
        attention = masked_attention(self.score(features), frames)  # (B, T, r)
        rows = torch.einsum("btr,btd->brd", attention, features)  # (B, r, D)
        products = torch.einsum("btr,bts->brs", attention, attention)  # (B, r, r)
        distance = (products - torch.eye(products.shape[1], device=products.device)) ** 2
        overlap = self.penalty * distance.sum(), torch.tensor(len(rows), device=rows.device)
        return Pooled(rows.flatten(1), attention.mean(-1), {"overlap": overlap})


def _check_heads(input_size: int, num_heads: int) -> None:
    if num_heads < 1 or input_size % num_heads:
        raise ValueError(f"num_heads must divide the {input_size} features that are pooled, got {num_heads}.")


# ---- Poolings by name, one or several side by side.

POOLINGS: dict[str, Callable[[int, int, float], nn.Module]] = {
    "mean": lambda size, num_heads, penalty: MeanPooling(size),
    "statistics": lambda size, num_heads, penalty: StatisticsPooling(size),
    "attention": lambda size, num_heads, penalty: SelfAttentionPooling(size),
    "attentive_statistics": lambda size, num_heads, penalty: AttentiveStatisticsPooling(size),
    "multihead": lambda size, num_heads, penalty: MultiHeadPooling(size, num_heads),
    "queries": lambda size, num_heads, penalty: LearnedQueryPooling(size, num_heads),
    "structured": lambda size, num_heads, penalty: StructuredPooling(size, num_heads, penalty),
}


class JoinedPooling(nn.Module):
    """The vectors of several poolings of the same frames, side by side.

    Args:
        names: of `POOLINGS`, joined by `+`: `mean`, `attention+statistics`.
        input_size: D.
        num_heads: heads of `multihead` and `queries`, rows of `structured`.
        penalty: of `structured`.
    """

    def __init__(self, names: str, input_size: int, num_heads: int = 4, penalty: float = 0.3) -> None:
        super().__init__()
        chosen = names.split("+")
        for name in chosen:
            if name not in POOLINGS:
                raise ValueError(f"Unknown pooling {name!r}.{nearest(name, POOLINGS)} Join several with +.")
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"Each pooling can be joined once, got {names!r}.")
        parts: dict[str, Any] = {name: POOLINGS[name](input_size, num_heads, penalty) for name in chosen}
        self.parts = nn.ModuleDict(parts)
        self.output_size = sum(part.output_size for part in parts.values())

    def forward(self, frames: Frames) -> Pooled:
        """(B, T, D) -> (B, output_size); the attention is that of the first part that has one."""
        pooled = [part(frames) for part in self.parts.values()]
        attention = next((part.attention for part in pooled if part.attention is not None), None)
        losses = {name: loss for part in pooled for name, loss in part.losses.items()}
        return Pooled(torch.cat([part.vector for part in pooled], dim=-1), attention, losses)
