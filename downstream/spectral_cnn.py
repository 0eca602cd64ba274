"""Convolutions over the time and the frequency of a spectrogram."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from undertone.downstream.batch_norm import MaskedMapNorm
from undertone.downstream.pooling import zero_padding
from undertone.upstream.types import Frames, length_mask


class SpectralCnn(nn.Module):
    """Frames as an image -> blocks of convolution, batch norm, ReLU and max pooling -> frames of all maps and bands.

    Padding is zero before every convolution and batch norms see real frames alone, so that batching changes nothing.

    Args:
        input_size: D = num_maps * bands; the frames of `fbank` are 3 maps (levels, deltas, accelerations).
        channels: maps after each block; none: the frames go through as they are.
        pools: (frames, bands) that one step of each block's pooling covers.
        kernel_size: frames and bands that a convolution sees; odd.
        num_maps: of the input.

    Raises:
        ValueError: not as many pools as channels, or bands that are not whole.
    """

    def __init__(
        self,
        input_size: int,
        channels: Sequence[int],
        pools: Sequence[Sequence[int]],
        kernel_size: int = 3,
        num_maps: int = 1,
    ) -> None:
        super().__init__()
        if len(pools) < len(channels) or any(len(pool) != 2 for pool in pools):
            raise ValueError(f"Each of the convolutions {list(channels)} needs [frames, bands] in pools, got {pools}.")
        if input_size % num_maps:
            raise ValueError(f"num_maps must divide the {input_size} features of a frame, got {num_maps}.")
        sizes = [num_maps, *channels]
        self.num_maps, bands = num_maps, input_size // num_maps
        self.blocks = nn.ModuleList()
        for size, next_size, (frames, band) in zip(sizes[:-1], sizes[1:], pools, strict=False):
            self.blocks.append(_Block(size, next_size, kernel_size, frames, band))
            bands = -(-bands // band)
        self.output_size = sizes[-1] * bands

    def forward(self, frames: Frames) -> Frames:
        """(B, T, D) -> (B, T', output_size), T' = T over the product of the pools' frames, rounded up."""
        features = zero_padding(frames)
        size = (*features.shape[:2], self.num_maps, -1)  # by reshape: exported, unflatten would fix T
        maps = features.reshape(size).transpose(1, 2)  # (B, maps, T, bands)
        maps = maps.contiguous(memory_format=torch.channels_last)
        lengths = frames.lengths
        for block in self.blocks:
            maps, lengths = block(maps, lengths)
        return Frames(maps.transpose(1, 2).flatten(2), lengths)  # (B, T', C * bands')


class _Block(nn.Module):
    """(B, C, T, F) with zeros on padding -> the next maps with zeros on padding, and their lengths."""

    def __init__(self, size: int, next_size: int, kernel_size: int, frames: int, bands: int) -> None:
        super().__init__()
        self.frames = frames
        self.convolution = nn.Conv2d(size, next_size, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = MaskedMapNorm(next_size)
        self.pool = nn.MaxPool2d((frames, bands), ceil_mode=True)  # no frame is lost, and one stays of the shortest

    def forward(self, maps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        mask = length_mask(lengths, maps.shape[2])
        # ReLU makes the padding's zeros the lowest value there is: a window with padding in it pools its real frames.
        maps = self.pool(self.norm(self.convolution(maps), mask).relu())  # (B, C, ceil(T / frames), ceil(F / bands))
        return maps, (lengths - 1) // self.frames + 1
