"""Padding kept out of norms, convolutions and squeezed frames, so that a clip's states do not depend on its batch."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any, cast

import torch
from torch import Tensor, nn

from undertone.upstream.types import length_mask

# The `lengths` of a masked module are the (B,) int64 valid frames of its next input, or None when all are valid; they
# are set before each forward. Parameters and keys of the state are those of the plain module.

# ---- Norms that padding cannot change.
#
# wav2vec2-base, HuBERT-base and WavLM-base normalise each channel of their first convolution over *time*. In a padded
# batch the padding enters mean and variance, and every hidden state of a shorter utterance moves by 0.4-0.6 relative,
# with or without an attention mask. Here the statistics run over the valid frames only.
#
# mHuBERT-147 (`conv_pos_batch_norm`) has a batch norm before its positional convolution: it turns the zeros of the
# padding frames into its bias, which the convolution then spreads over the last valid frames. Here they stay zero.
#
# In train mode too, batch norms (mHuBERT-147's, a conformer's) use the statistics that pretraining left, and leave
# them: those of a batch would make an utterance depend on what shares it. Their weight and bias are trained.


class MaskedGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` with one channel a group, its statistics over the valid frames."""

    lengths: Tensor | None = None

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


class RunningBatchNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` by its running statistics in every mode, with zeros in the padding frames."""

    lengths: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(B, D, T) -> (B, D, T)."""
        output = torch.nn.functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )
        if self.lengths is None:
            return output
        return output * length_mask(self.lengths, input.shape[2])[:, None]  # (B, D, T)


def mask_norms(module: nn.Module) -> tuple[list[MaskedGroupNorm], list[RunningBatchNorm]]:
    """Make every group norm and batch norm inside `module` a masked one, and return them."""
    group_norms: list[Any] = [norm for norm in module.modules() if isinstance(norm, nn.GroupNorm)]
    batch_norms: list[Any] = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm1d)]
    for norm in group_norms:
        if norm.num_groups != norm.num_channels or not norm.affine:
            raise ValueError(
                f"Only an affine group norm with one channel a group can be masked, got {norm}. "
                f"Use an upstream whose feature extractor has a layer norm."
            )
        norm.__class__ = MaskedGroupNorm
    for norm in batch_norms:
        norm.__class__ = RunningBatchNorm
    return group_norms, batch_norms


# ---- Convolutions over frames that padding cannot reach.
#
# data2vec's positional embedding is a stack of convolutions with layer norms between them, which turn the zeros of
# the padding frames into something else; the convolution module of a conformer starts with a layer norm that does the
# same. Here each such convolution sees zeros there, as it does beyond the end of an utterance that is alone.


class MaskedConv1d(nn.Conv1d):
    """`nn.Conv1d` that reads zeros from the padding frames of its input."""

    lengths: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, T) -> (B, C', T')."""
        if self.lengths is not None:
            input = input * length_mask(self.lengths, input.shape[2])[:, None]  # (B, C, T)
        return super().forward(input)


def mask_convs(module: nn.Module, pattern: str) -> list[MaskedConv1d]:
    """Make every convolution of `module` whose dotted name fits `pattern` (`*` is anything) a masked one."""
    convs: list[MaskedConv1d] = []
    for name, child in module.named_modules():
        if fnmatch(name, pattern) and isinstance(child, nn.Conv1d):
            child.__class__ = MaskedConv1d
            convs.append(cast(MaskedConv1d, child))
    return convs


# ---- SEW and SEW-D squeeze their frames before the transformer (Wu et al., 2021): hidden states are at half the rate.


class SqueezedMask:
    """Forward pre-hook of a transformer block: it attends to an utterance's own squeezed frames.

    An odd last frame is dropped when an utterance is alone. transformers counts it when there is padding behind it,
    and every frame of the utterance then attends to one more.
    """

    lengths: Tensor | None = None

    def __call__(
        self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Replace `attention_mask`, the second argument, by a (B, 1, 1, T) bool one."""
        if self.lengths is None:
            return None
        mask = length_mask(self.lengths, args[0].shape[1])[:, None, None]  # (B, 1, 1, T)
        return (args[0], mask), {name: value for name, value in kwargs.items() if name != "attention_mask"}


def mask_blocks(blocks: nn.Module) -> list[SqueezedMask]:
    """Hang one `SqueezedMask` before every block; returns it."""
    mask = SqueezedMask()
    for block in blocks.children():
        block.register_forward_pre_hook(mask, with_kwargs=True)
    return [mask]


def squeezed_frames(model: Any, lengths: Tensor) -> Tensor:
    """(B,) samples -> (B,) hidden states: `squeeze_factor` convolution frames each, an incomplete last one dropped."""
    frames = model._get_feat_extract_output_lengths(lengths)
    return torch.div(frames, model.config.squeeze_factor, rounding_mode="floor")
