"""Norms that padding cannot change.

wav2vec2-base, HuBERT-base and WavLM-base normalise each channel of their first convolution over *time*. In a padded
batch the padding enters mean and variance, and every hidden state of a shorter utterance moves by 0.4-0.6 relative,
with or without an attention mask. Here the statistics run over the valid frames only.

mHuBERT-147 (`conv_pos_batch_norm`) has a batch norm before its positional convolution: it turns the zeros of the
padding frames into its bias, which the convolution then spreads over the last valid frames. Here they stay zero.

In train mode too, batch norms (mHuBERT-147's, a conformer's) use the statistics that pretraining left, and leave them:
those of a batch would make an utterance depend on what shares it. Their weight and bias are trained.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from undertone.upstream.types import length_mask


class MaskedGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` with one channel a group, its statistics over the valid frames. Parameters and keys are the same.

    Attributes:
        lengths: (B,) int64 valid frames of the next input, or None when all are valid. Set before each forward.
    """

    lengths: Tensor | None = None

    @classmethod
    def like(cls, norm: nn.GroupNorm) -> MaskedGroupNorm:
        """The masked twin of `norm`, which shares its parameters.

        Raises:
            ValueError: the norm has several channels a group, or no affine parameters.
        """
        if norm.num_groups != norm.num_channels or not norm.affine:
            raise ValueError(
                f"Only an affine group norm with one channel a group can be masked, got {norm}. "
                f"Use an upstream whose feature extractor has a layer norm."
            )
        with torch.device("meta"):
            twin = cls(norm.num_groups, norm.num_channels, norm.eps)
        twin.weight, twin.bias = norm.weight, norm.bias
        return twin

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T); what stands in the padding is finite and means nothing."""
        if self.lengths is None:
            return super().forward(input)
        tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if input.is_cpu and not tracing:
            return self._one_by_one(input, self.lengths.tolist())
        input = input.to(torch.promote_types(input.dtype, torch.float32))  # under autocast, as torch's own norm
        mask = length_mask(self.lengths, input.shape[2])[:, None]  # (B, 1, T)
        counts = self.lengths[:, None, None]  # (B, 1, 1)
        mean = (input * mask).sum(2, keepdim=True) / counts  # (B, C, 1)
        centred = (input - mean) * mask  # (B, C, T)
        variance = centred.square().sum(2, keepdim=True) / counts  # (B, C, 1)
        scale = self.weight[:, None] * torch.rsqrt(variance + self.eps)  # (B, C, 1)
        return torch.addcmul(self.bias[:, None], centred, scale)  # (B, C, T)

    def _one_by_one(self, input: Tensor, lengths: list[int]) -> Tensor:
        """The same by the plain norm of each utterance: a CPU goes over the memory once instead of five times."""
        frames = input.shape[2]
        return torch.stack([
            nn.functional.pad(super(MaskedGroupNorm, self).forward(one[None, :, :length])[0], (0, frames - length))
            for one, length in zip(input, lengths, strict=True)
        ])  # (B, C, T)  # fmt: skip


class MaskedBatchNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` by its running statistics in every mode, with zeros in the padding frames; the same keys.

    Attributes:
        lengths: (B,) int64 valid frames of the next input, or None when all are valid. Set before each forward.
    """

    lengths: Tensor | None = None

    @classmethod
    def like(cls, norm: nn.BatchNorm1d) -> MaskedBatchNorm:
        """The masked twin of `norm`, which shares its parameters and buffers."""
        with torch.device("meta"):
            twin = cls(norm.num_features, norm.eps, norm.momentum)
        twin.weight, twin.bias = norm.weight, norm.bias
        twin.running_mean, twin.running_var = norm.running_mean, norm.running_var
        twin.num_batches_tracked = norm.num_batches_tracked
        return twin

    def forward(self, input: Tensor) -> Tensor:
        """(B, D, T) -> (B, D, T)."""
        output = torch.nn.functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )
        if self.lengths is None:
            return output
        return output * length_mask(self.lengths, input.shape[2])[:, None]  # (B, D, T)


def mask_norms(module: nn.Module) -> tuple[list[MaskedGroupNorm], list[MaskedBatchNorm]]:
    """Replace every group norm and batch norm inside `module` by its masked twin; returns the twins."""
    group_norms, batch_norms = [], []
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm):
                group_norms.append(MaskedGroupNorm.like(child))
                setattr(parent, name, group_norms[-1])
            elif isinstance(child, nn.BatchNorm1d):
                batch_norms.append(MaskedBatchNorm.like(child))
                setattr(parent, name, batch_norms[-1])
    return group_norms, batch_norms
