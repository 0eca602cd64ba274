"""CRNN-MA: a CNN on the log-mel picture beside a BLSTM on frame features, each with an attention of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.norms import MaskedBatchNorm
from undertone.downstream.pooling import masked_attention, masked_mean, zero_padding
from undertone.downstream.recurrent import BiLstm
from undertone.downstream.task import Task
from undertone.upstream.types import Frames, length_mask

BRANCHES = {"both": ("cnn", "lstm"), "cnn": ("cnn",), "lstm": ("lstm",)}
FUSIONS = ("attention", "concat")


class Jiang2022Head(Head):
    """Parallel CNN and BLSTM with multiple attentions and attention fusion -> one output a task.

    Jiang et al., "CRNN With Multiple Attention Mechanisms for Speech Emotion Recognition", IEEE TCDS 2022: AlexNet's
    convolutions with frame-level attention after three of them; multidimensional attention before the BLSTM; a
    fusion of both vectors. Its released graph cannot run; where it contradicts itself the reading is ours. The
    defaults are narrow, the system of this name has the paper's size.

    Args:
        spectral_size: how many of the D features, the first, are the CNN's picture, the others being the BLSTM's;
            0: both get all.
        num_maps: of the picture: 3 of levels, deltas and accelerations.
        channels: maps of the five convolutions.
        attention_size: of each frame-level attention's vector.
        hidden_size: units of the BLSTM in each direction.
        branches: both, cnn or lstm.
        attention: in the branches; without, the CNN's last maps and the BLSTM's frames are averaged.
        fusion: of both vectors: attention or concat.
        resize: bilinear, each picture to resize x resize frames and bands, as the paper's 227; 0: as long as it is.
        dropout: of the embedding.
    """

    jitter = 0.1

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        tasks: tuple[Task, ...],
        *,
        spectral_size: int = 0,
        num_maps: int = 1,
        channels: Sequence[int] = (16, 32, 48, 48, 32),
        attention_size: int = 128,
        hidden_size: int = 64,
        branches: str = "both",
        attention: bool = True,
        fusion: str = "attention",
        resize: int = 0,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(input_sizes, tasks)
        (size,) = input_sizes.values()
        picture = spectral_size or size
        if branches not in BRANCHES or fusion not in FUSIONS:
            raise ValueError(
                f"Head 'jiang2022': branches must be one of {', '.join(BRANCHES)} and fusion one of "
                f"{', '.join(FUSIONS)}, got {branches!r} and {fusion!r}."
            )
        if picture > size or picture % num_maps or len(channels) != 5:
            raise ValueError(
                f"Head 'jiang2022': five channels and a spectral_size up to {size} that num_maps divides are needed, "
                f"got {list(channels)}, spectral_size={spectral_size} and num_maps={num_maps}."
            )
        self.split = (picture, size - picture) if spectral_size else None
        bands = resize or picture // num_maps
        self.cnn = self.lstm = None
        if "cnn" in BRANCHES[branches]:
            self.cnn = _CnnBranch(num_maps, bands, channels, attention_size, attention, resize)
        if "lstm" in BRANCHES[branches]:
            self.lstm = _LstmBranch(self.split[1] if self.split else size, hidden_size, attention)
        width = sum(part.output_size for part in (self.cnn, self.lstm) if part is not None)
        fused = branches == "both" and fusion == "attention"
        self.fusion = nn.Sequential(nn.Linear(width, width), nn.Sigmoid(), nn.Linear(width, width)) if fused else None
        self.dropout = nn.Dropout(dropout)
        self.outputs = TaskOutputs(width, tasks)

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T, D)} -> logits, the embedding (B, E), the attention (B, T') of the CNN's last or the BLSTM."""
        frames = self.only_stream(streams)
        features = zero_padding(frames)
        picture, rest = features.split(self.split, dim=-1) if self.split else (features, features)
        vectors, attentions = [], []
        for branch, part in ((self.cnn, picture), (self.lstm, rest)):
            if branch is not None:
                vector, attention, lengths = branch(Frames(part, frames.lengths))
                vectors.append(vector)
                attentions.append((attention, lengths))
        embedding = torch.cat(vectors, dim=-1)  # (B, E)
        if self.fusion is not None:
            embedding = self.fusion(embedding)
        attention, lengths = attentions[0]
        logits = self.outputs(self.dropout(embedding))
        return HeadOutput(logits, embedding, attention=attention, attention_lengths=lengths)


class _CnnBranch(nn.Module):
    """The picture -> AlexNet's convolutions -> frame-level attentions, their vectors added: (B, attention_size)."""

    def __init__(
        self, num_maps: int, bands: int, channels: Sequence[int], size: int, attention: bool, resize: int
    ) -> None:
        super().__init__()
        self.num_maps, self.resize, self.output_size = num_maps, resize, size
        sizes = [num_maps, *channels]
        kernels, self.strides, self.pooled = (11, 5, 3, 3, 3), (4, 1, 1, 1, 1), (0, 1, 4)
        self.convolutions, self.attentions = nn.ModuleList(), nn.ModuleDict()
        for place in range(5):
            kernel, stride = kernels[place], self.strides[place]
            self.convolutions.append(nn.Conv2d(sizes[place], sizes[place + 1], kernel, stride, kernel // 2))
            bands = -(-bands // (2 * stride if place in self.pooled else stride))
            if place == 4 or (attention and place in self.pooled):
                self.attentions[str(place)] = _FrameAttention(sizes[place + 1], bands, size, attention)
        self.norm = MaskedBatchNorm(size)

    def forward(self, frames: Frames) -> tuple[Tensor, Tensor | None, Tensor]:
        """(B, T, D) -> the sum of all attentions' vectors, normalised, in (0, 1): (B, size); the last one's weights
        (B, T') and their lengths (B,).
        """
        maps, lengths = self._picture(frames)
        total, attention = maps.new_zeros(maps.shape[0], self.output_size), None
        for place, convolution in enumerate(self.convolutions):
            maps = convolution(maps).relu()
            lengths = (lengths - 1) // self.strides[place] + 1
            maps = maps * length_mask(lengths, maps.shape[2])[:, None, :, None]  # without the bias in the padding
            if place in self.pooled:
                maps = F.max_pool2d(maps, 2, ceil_mode=True)  # nothing is below the padding's zeros
                lengths = (lengths - 1) // 2 + 1
            if str(place) in self.attentions:
                vector, attention = self.attentions[str(place)](maps, lengths)
                total = total + vector  # (B, size)
        return _normed(self.norm, total).sigmoid(), attention, lengths

    def _picture(self, frames: Frames) -> tuple[Tensor, Tensor]:
        """(B, maps, T, bands) with zeros on padding, or each resized: (B, maps, R, R)."""
        size = (*frames.features.shape[:2], self.num_maps, -1)
        maps = frames.features.reshape(size).transpose(1, 2)  # (B, maps, T, bands)
        if not self.resize:
            return maps, frames.lengths
        maps = _stretched(maps, frames.lengths, self.resize)  # (B, maps, R, bands)
        maps = F.interpolate(maps, (self.resize, self.resize), mode="bilinear")
        return maps, torch.full_like(frames.lengths, self.resize)


class _FrameAttention(nn.Module):
    """a = softmax_t(u' sigmoid(W f_t + b)), f one map of the maps; sum_t a_t max over bands of relu(size maps)."""

    def __init__(self, channels: int, bands: int, size: int, attention: bool) -> None:
        super().__init__()
        self.values = nn.Conv2d(channels, size, 1)
        self.one_map = nn.Conv2d(channels, 1, 1) if attention else None
        score = nn.Sequential(nn.Linear(bands, bands), nn.Sigmoid(), nn.Linear(bands, 1, bias=False))
        self.score = score if attention else None

    def forward(self, maps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        values = self.values(maps).relu().amax(3).transpose(1, 2)  # (B, T, size)
        frames = Frames(values, lengths)
        if self.one_map is None or self.score is None:
            return masked_mean(frames), None
        scores = self.score(self.one_map(maps).squeeze(1)).squeeze(-1)  # (B, T)
        attention = masked_attention(scores, frames)
        return torch.einsum("bt,btd->bd", attention, values), attention


class _LstmBranch(nn.Module):
    """Features -> multidimensional attention -> BLSTM -> mean over the real frames: (B, 2 hidden_size)."""

    def __init__(self, input_size: int, hidden_size: int, attention: bool) -> None:
        super().__init__()
        self.over_time = nn.Linear(input_size, input_size) if attention else None
        self.over_features = nn.Linear(input_size, input_size) if attention else None
        self.rnn = BiLstm(input_size, hidden_size)
        self.output_size = self.rnn.output_size
        self.norm = MaskedBatchNorm(self.output_size)

    def forward(self, frames: Frames) -> tuple[Tensor, Tensor | None, Tensor]:
        features, attention = frames.features, None
        if self.over_time is not None and self.over_features is not None:
            times = masked_attention(self.over_time(features), frames)  # (B, T, D), sums to 1 over time
            shares = self.over_features(features).softmax(-1)  # (B, T, D), sums to 1 over the features
            features, attention = features + times * features + shares * features, times.mean(-1)
        pooled = masked_mean(self.rnn(Frames(features, frames.lengths)))  # (B, 2 H)
        return _normed(self.norm, pooled).relu(), attention, frames.lengths


def _stretched(maps: Tensor, lengths: Tensor, size: int) -> Tensor:
    """(B, C, T, F) -> (B, C, size, F): the real frames of each, as `F.interpolate` does it linearly."""
    middles = (torch.arange(size, device=maps.device) + 0.5) * lengths[:, None] / size - 0.5  # (B, R), in frames
    places = middles.clamp(min=0)
    before = places.long()
    shares = (places - before)[:, None, :, None].to(maps)  # (B, 1, R, 1)

    def at(frames: Tensor) -> Tensor:
        return maps.gather(2, frames[:, None, :, None].expand(-1, maps.shape[1], -1, maps.shape[3]))

    return at(before).lerp(at(torch.minimum(before + 1, lengths[:, None] - 1)), shares)


def _normed(norm: MaskedBatchNorm, vectors: Tensor) -> Tensor:
    """(B, D) batch-normalised; a batch of one, which has no statistics, by the running ones."""
    real = torch.ones(vectors.shape[0], 1, dtype=torch.bool, device=vectors.device)
    return norm(vectors.unsqueeze(1), real)[:, 0]  # (B, D)
