"""Co-attention: MFCCs and the spectrogram weigh the frames of a self-supervised upstream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from undertone.downstream.head import Head, HeadOutput, TaskOutputs
from undertone.downstream.pooling import masked_attention, masked_mean, zero_padding
from undertone.downstream.recurrent import BiLstm
from undertone.downstream.task import Task
from undertone.upstream.types import Frames, length_mask

SPECTROGRAM, MFCC, SSL = "spectrogram", "mfcc", "ssl"
STREAMS = (SPECTROGRAM, MFCC, SSL)
FUSIONS, WEIGHTS = ("co-attention", "concat"), ("relu", "softmax")


class Zou2022Head(Head):
    """Three streams with co-attention -> one output a task; or fewer streams, each left out by not giving it.

    Zou, Si, Chen, Rajan & Chng, "Speech Emotion Recognition with Co-Attention based Multi-level Acoustic Information",
    ICASSP 2022 (arXiv 2203.15326), as in their code: AlexNet on the spectrogram gives s, a BLSTM on MFCCs of length 1
    gives m, and v = sum_t w_t h_t of the frames of `ssl` with w = ReLU(W [s; m] + b), a weight a position, which no
    softmax normalises; [s; m; v] -> two layers -> outputs. That needs clips of one length: they are cut into
    `segments`, whose log-probabilities are averaged. Without segments clips stay whole: s and m are means over the
    frames, and w_t = q' k_t / sqrt(d) with a query q of [s; m] and a key k_t of each frame, through a ReLU and over the
    number of frames, or a softmax. The streams are called mfcc, spectrogram and ssl. The defaults are narrow, the
    system of this name has the paper's sizes. AlexNet starts from random weights.

    Args:
        fusion: co-attention, or concat: v is the mean of the frames of `ssl`.
        weights: of the frames: relu or softmax.
        segments: {stream: frames of a segment}, of each stream for as long a time; {}: clips stay whole.
        channels: maps of AlexNet's five convolutions.
        resize: bilinear, the picture of a segment to this many bands, and frames in proportion; 0: as it is.
        hidden_size: units of each of the two layers of the BLSTM in each direction.
        size: of s, m, v and the embedding.
        lstm_dropout: between the layers of the BLSTM.
        dropout: of what becomes s and m, and between the last layers.
    """

    takes_streams = True

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        tasks: tuple[Task, ...],
        *,
        fusion: str = "co-attention",
        weights: str = "relu",
        segments: Mapping[str, int] | None = None,
        channels: Sequence[int] = (16, 32, 48, 48, 32),
        resize: int = 0,
        hidden_size: int = 32,
        size: int = 64,
        lstm_dropout: float = 0.5,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_sizes, tasks)
        self.segments = {name: frames for name, frames in (segments or {}).items() if name in input_sizes}
        _check(input_sizes, fusion, weights, self.segments, channels, resize)
        self.spectrogram = self.mfcc = self.ssl = None
        if SPECTROGRAM in input_sizes:
            frames = self.segments.get(SPECTROGRAM)
            self.spectrogram = _Picture(input_sizes[SPECTROGRAM], frames, channels, resize, size, dropout)
        if MFCC in input_sizes:
            frames = self.segments.get(MFCC)
            self.mfcc = _Cepstra(input_sizes[MFCC], frames, hidden_size, size, lstm_dropout, dropout)
        asking = size * (len(input_sizes) - 1)  # of [s; m], or of the one of them that there is
        if SSL in input_sizes:
            asking = asking if fusion == "co-attention" else 0
            self.ssl = _CoAttention(input_sizes[SSL], self.segments.get(SSL), asking, weights, size)
        self.embed = nn.Sequential(
            nn.Linear(size * len(input_sizes), size), nn.ReLU(), nn.Dropout(dropout), nn.Linear(size, size), nn.ReLU()
        )
        self.outputs = TaskOutputs(size, tasks)

    def forward(self, streams: Mapping[str, Frames]) -> HeadOutput:
        """{stream: (B, T_s, D_s)} -> logits, the embedding (B, size); of whole clips the attention, if by softmax."""
        if not self.segments:
            embedding, attention = self._embedding(streams)
            lengths = streams[SSL].lengths if attention is not None else None
            return HeadOutput(self.outputs(embedding), embedding, attention=attention, attention_lengths=lengths)
        if torch.onnx.is_in_onnx_export():
            raise ValueError(
                "Head 'zou2022' cuts a clip into segments, whose number no ONNX graph can follow. Train with "
                "head.segments={}, which leaves clips whole."
            )
        counts = {name: (streams[name].lengths - 1) // size + 1 for name, size in self.segments.items()}
        count = torch.stack(list(counts.values())).amax(0)  # (B,) segments of each clip
        most = int(count.max())
        cut = {name: _segments(streams[name], size, most) for name, size in self.segments.items()}
        embedding, _ = self._embedding(cut)  # (B S, size)
        logits = {}
        for task in self.tasks:
            own = self.outputs.layer(task.name)(embedding)  # (B S, C)
            logits[task.name] = _averaged(own.log_softmax(-1) if task.has_classes else own, count)
        return HeadOutput(logits, _averaged(embedding, count))

    def _embedding(self, streams: Mapping[str, Frames]) -> tuple[Tensor, Tensor | None]:
        """(B, size) of clips or segments, and the attention (B, T) of their `ssl` frames."""
        vectors, attention = [], None
        if self.spectrogram is not None:
            vectors.append(self.spectrogram(streams[SPECTROGRAM]))
        if self.mfcc is not None:
            vectors.append(self.mfcc(streams[MFCC]))
        if self.ssl is not None:
            vector, attention = self.ssl(streams[SSL], vectors)
            vectors.append(vector)
        embedding: Tensor = self.embed(torch.cat(vectors, -1))
        return embedding, attention


def _check(
    input_sizes: Mapping[str, int],
    fusion: str,
    weights: str,
    segments: Mapping[str, int],
    channels: Sequence[int],
    resize: int,
) -> None:
    if unknown := [name for name in input_sizes if name not in STREAMS]:
        raise ValueError(
            f"Head 'zou2022' takes streams called {', '.join(STREAMS)}, got {unknown[0]!r}. Name each upstream, as "
            f"--upstream ssl=facebook/wav2vec2-base --upstream mfcc."
        )
    if fusion not in FUSIONS or weights not in WEIGHTS or len(channels) != 5:
        raise ValueError(
            f"Head 'zou2022': fusion must be one of {', '.join(FUSIONS)}, weights one of {', '.join(WEIGHTS)}, and "
            f"channels five numbers; got {fusion!r}, {weights!r} and {list(channels)}."
        )
    if fusion == "co-attention" and (SSL not in input_sizes or len(input_sizes) < 2):
        raise ValueError(
            f"Head 'zou2022': co-attention is of mfcc or spectrogram to the frames of ssl, got "
            f"{', '.join(input_sizes)}. Use head.fusion=concat, or give these streams."
        )
    if segments and (missing := [name for name in input_sizes if name not in segments]):
        raise ValueError(f"Head 'zou2022': head.segments needs the frames of {missing[0]} too, or none, {{}}.")
    if any(frames < 1 for frames in segments.values()) or (resize and not segments):
        raise ValueError("Head 'zou2022': segments have one frame or more, and resize is for segments.")


def _segments(frames: Frames, size: int, most: int) -> Frames:
    """(B, T, D) -> (B S, size, D), one clip's after the other, zeros behind each; one frame at least is real."""
    features = zero_padding(frames)[:, : most * size]
    features = F.pad(features, (0, 0, 0, most * size - features.shape[1]))  # (B, S size, D)
    starts = torch.arange(most, device=features.device) * size  # (S,)
    lengths = (frames.lengths[:, None] - starts).clamp(1, size)  # (B, S)
    return Frames(features.reshape(-1, size, features.shape[2]), lengths.flatten())


def _averaged(rows: Tensor, count: Tensor) -> Tensor:
    """(B S, C) of each clip's segments, S at most -> (B, C), the mean over the real ones."""
    values = rows.reshape(len(count), -1, rows.shape[1])  # (B, S, C)
    real = length_mask(count, values.shape[1])[..., None]  # (B, S, 1)
    return (values * real).sum(1) / count[:, None]


class _Picture(nn.Module):
    """The spectrogram -> AlexNet's convolutions -> linear, ReLU: (B, T, D) -> (B, size).

    Of a segment as AlexNet has it, 6 x 6 averages of its last maps; of a whole clip, whose padding must not count, the
    convolutions are padded by half their width, and the average is over the real frames and in 6 bands.
    """

    KERNELS, STRIDES, POOLED = (11, 5, 3, 3, 3), (4, 1, 1, 1, 1), (0, 1, 4)
    SMALLEST = 63  # frames and bands that leave one after them

    def __init__(
        self, input_size: int, frames: int | None, channels: Sequence[int], resize: int, size: int, dropout: float
    ) -> None:
        super().__init__()
        self.whole, self.picture = frames is None, None
        if frames is not None:
            self.picture = (round(frames * resize / input_size), resize) if resize else (frames, input_size)
            if min(self.picture) < self.SMALLEST:
                raise ValueError(
                    f"Head 'zou2022': AlexNet needs {self.SMALLEST} frames and bands of a segment, got "
                    f"{self.picture[0]} and {self.picture[1]}. Give longer segments, or a larger head.resize."
                )
        padding = [kernel // 2 for kernel in self.KERNELS] if self.whole else [2, 2, 1, 1, 1]
        maps = zip((1, *channels), channels, self.KERNELS, self.STRIDES, padding, strict=False)
        self.convolutions = nn.ModuleList(nn.Conv2d(*one) for one in maps)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(channels[-1] * (6 if self.whole else 36), size)
        bands = input_size
        for place, stride in enumerate(self.STRIDES):  # of the last maps of a whole clip
            bands = (bands - 1) // (2 * stride if place in self.POOLED else stride) + 1
        self.sixths = nn.Buffer(F.adaptive_avg_pool1d(torch.eye(bands), 6), persistent=False)  # (D', 6), an average

    def forward(self, frames: Frames) -> Tensor:
        """(B, T, D) -> (B, size)."""
        maps, lengths = zero_padding(frames)[:, None], frames.lengths  # (B, 1, T, D)
        if self.picture not in (None, maps.shape[2:]):
            maps = F.interpolate(maps, self.picture, mode="bilinear")
        for place, convolution in enumerate(self.convolutions):
            maps = convolution(maps).relu()  # (B, C, T', D')
            lengths = (lengths - 1) // self.STRIDES[place] + 1
            maps = self._real(maps, lengths)
            if place in self.POOLED:  # nothing is below the padding's zeros
                maps, lengths = F.max_pool2d(maps, 3, 2, padding=int(self.whole)), (lengths - 1) // 2 + 1
                maps = self._real(maps, lengths)
        if not self.whole:
            vector = F.adaptive_avg_pool2d(maps, 6).flatten(1)  # (B, 36 C)
        else:
            bands = maps @ self.sixths  # (B, C, T', 6)
            vector = masked_mean(Frames(bands.transpose(1, 2).flatten(2), lengths))  # (B, 6 C)
        return self.out(self.dropout(vector)).relu()

    def _real(self, maps: Tensor, lengths: Tensor) -> Tensor:
        """Of whole clips without what a bias, or the overlap of a pooling, put into the padding."""
        return maps * length_mask(lengths, maps.shape[2])[:, None, :, None] if self.whole else maps


class _Cepstra(nn.Module):
    """MFCCs, each frame of length 1 -> BLSTM -> all frames of a segment, or the mean of a clip's -> linear, ReLU."""

    def __init__(
        self, input_size: int, frames: int | None, hidden_size: int, size: int, lstm_dropout: float, dropout: float
    ) -> None:
        super().__init__()
        self.whole = frames is None
        self.rnn = BiLstm(input_size, hidden_size, num_layers=2, dropout=lstm_dropout)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(self.rnn.output_size * (frames or 1), size)

    def forward(self, frames: Frames) -> Tensor:
        """(B, T, D) -> (B, size)."""
        features = F.normalize(frames.features, dim=-1)
        if self.whole:
            vector = masked_mean(self.rnn(Frames(features, frames.lengths)))  # (B, 2 H)
        else:
            lengths = torch.full_like(frames.lengths, features.shape[1])
            vector = self.rnn(Frames(features, lengths)).features.flatten(1)  # (B, T 2 H)
        return self.out(self.dropout(vector)).relu()


class _CoAttention(nn.Module):
    """A weighted sum of the frames of `ssl` -> linear, ReLU; without anything that asks, their mean.

    Args:
        input_size: D.
        frames: of a segment, each of which has a weight by its place; None: by a key of what it holds.
        asking: size of the vectors that ask, joined; 0: nothing does.
        weights: relu or softmax.
        size: of the output.
    """

    def __init__(self, input_size: int, frames: int | None, asking: int, weights: str, size: int) -> None:
        super().__init__()
        self.by_place, self.weights = frames is not None, weights
        self.query = nn.Linear(asking, frames or size) if asking else None
        self.key = nn.Linear(input_size, size, bias=False) if asking and not self.by_place else None
        self.out = nn.Linear(input_size, size)

    def forward(self, frames: Frames, vectors: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) and what asks -> (B, size), and the attention (B, T) of a softmax over a whole clip."""
        if self.query is None:
            return self.out(masked_mean(frames)).relu(), None
        scores = self.query(torch.cat(list(vectors), -1))  # (B, T) or (B, size)
        if self.key is not None:
            scores = torch.einsum("bd,btd->bt", scores, self.key(frames.features)) / scores.shape[-1] ** 0.5
        if self.weights == "softmax":
            attention = masked_attention(scores, frames)  # (B, T)
        else:
            attention = scores.relu() * frames.mask
            attention = attention if self.by_place else attention / frames.lengths[:, None]
        vector = torch.einsum("bt,btd->bd", attention, zero_padding(frames))  # (B, D)
        shown = attention if self.weights == "softmax" and not self.by_place else None
        return self.out(vector).relu(), shown
