"""Convolutions over frames that padding cannot reach.

data2vec's positional embedding is a stack of convolutions with layer norms between them, which turn the zeros of the
padding frames into something else; the convolution module of a conformer starts with a layer norm that does the same.
Here each such convolution sees zeros there, as it does beyond the end of an utterance that is alone.
"""

from __future__ import annotations

from fnmatch import fnmatch
from typing import cast

from torch import Tensor, nn

from undertone.upstream.types import length_mask


class MaskedConv1d(nn.Conv1d):
    """`nn.Conv1d` that reads zeros from the padding frames of its input. Parameters and keys are the same.

    Attributes:
        lengths: (B,) int64 valid frames of the next input, or None when all are valid. Set before each forward.
    """

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
