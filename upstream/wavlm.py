"""WavLM's attention, its projections called as modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.wavlm.modeling_wavlm import WavLMAttention


class ModularAttention(WavLMAttention):
    """`WavLMAttention` that calls its four projections; parameters, keys and results are the same.

    transformers hands their *weights* to `torch.nn.functional.multi_head_attention_forward`, so that a LoRA adapter
    around a projection is passed by: it changes nothing and gets no gradient. This is also faster, since
    `multi_head_attention_forward` materialises attention weights that nobody asked for.
    """

    def torch_multi_head_self_attention(  # type: ignore[override]
        self, hidden_states: Tensor, attention_mask: Tensor | None, gated_position_bias: Tensor
    ) -> tuple[Tensor, None]:
        """(B, T, D), (B, T) of 1 = real, (B * heads, T, T) -> (B, T, D) and no attention weights."""
        query, key, value = (
            projection(hidden_states).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, T, D / heads)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        bias = gated_position_bias.unflatten(0, (-1, self.num_heads)).to(query.dtype)  # (B, heads, T, T)
        if attention_mask is not None:
            bias = bias.masked_fill(attention_mask.ne(1)[:, None, None], float("-inf"))
        dropout = self.dropout if self.training else 0.0
        output = torch.nn.functional.scaled_dot_product_attention(query, key, value, bias, dropout)
        return self.out_proj(output.transpose(1, 2).flatten(2)), None  # (B, T, D)


def call_projections(model: nn.Module) -> None:
    """Make every attention of a WavLM model a `ModularAttention`."""
    for module in model.modules():
        if isinstance(module, WavLMAttention):
            module.__class__ = ModularAttention
