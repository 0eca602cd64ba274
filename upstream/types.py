"""What flows between the parts. B utterances, N samples, L layers, T frames, D features; batch first; int64 lengths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

ALONE = "speech"  # name of the stream of an upstream that is the only one


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """(B,) lengths -> (B, size) bool, True where the position is real."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


@dataclass(frozen=True)
class AudioVisual:
    """One clip as an upstream that `sees` is given it: the sound, and what was to be seen meanwhile."""

    samples: Tensor  # (N,) float32 in [-1, 1]
    pictures: Tensor | None  # (T, H, W, 3) uint8, at the frames of that upstream; None: the clip has no video

    def __len__(self) -> int:
        return len(self.samples)


Wave = Tensor | AudioVisual


def sound_of(wave: Wave) -> Tensor:
    """(N,) samples."""
    return wave.samples if isinstance(wave, AudioVisual) else wave


@dataclass(frozen=True)
class WaveBatch:
    """Mono audio, zero-padded on the right; with what was to be seen, for an upstream that looks at it."""

    samples: Tensor  # (B, N) float32 in [-1, 1]
    lengths: Tensor  # (B,) int64, real samples of each row
    sample_rate: int  # Hz
    # of each row (T, H, W, 3) uint8, None where it has no video; None: nothing was looked for
    pictures: tuple[Tensor | None, ...] | None = None

    @classmethod
    def collate(cls, waves: Sequence[Wave], sample_rate: int) -> WaveBatch:
        """Pad a list of (N_i,) waves into one batch."""
        lengths = torch.tensor([len(wave) for wave in waves], dtype=torch.int64)
        samples = pad_sequence([sound_of(wave) for wave in waves], batch_first=True)
        seen = tuple(wave.pictures for wave in waves if isinstance(wave, AudioVisual))
        return cls(samples, lengths, sample_rate, seen or None)

    def to(self, device: torch.device | str) -> WaveBatch:
        """The same batch on another device."""
        pictures = self.pictures
        if pictures is not None:
            pictures = tuple(None if one is None else one.to(device) for one in pictures)
        return replace(self, samples=self.samples.to(device), lengths=self.lengths.to(device), pictures=pictures)


@dataclass(frozen=True)
class HiddenStates:
    """All L layer outputs of an upstream; layer 0 is the input of the first block. Padding frames are zero."""

    states: Tensor  # (B, L, T, D) floating point
    lengths: Tensor  # (B,) int64, real frames of each row

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, True = real."""
        return length_mask(self.lengths, self.states.shape[2])

    @classmethod
    def collate(cls, states: list[Tensor]) -> HiddenStates:
        """Pad a list of (L, T_i, D) states into one (B, L, T, D) batch of their dtype, float32 if they have several."""
        dtypes = {state.dtype for state in states}
        lengths = torch.tensor([state.shape[1] for state in states], dtype=torch.int64)
        num_layers, _, size = states[0].shape
        dtype = states[0].dtype if len(dtypes) == 1 else torch.float32
        batch = states[0].new_empty(len(states), num_layers, int(lengths.max()), size, dtype=dtype)
        for row, state in zip(batch, states, strict=True):
            row[:, : state.shape[1]] = state
            row[:, state.shape[1] :] = 0
        return cls(batch, lengths)

    @property
    def streams(self) -> Mapping[str, HiddenStates]:
        """{stream: hidden states}, as of a `StreamBatch`: of an upstream that is the only one, itself."""
        return {ALONE: self}

    def means(self) -> HiddenStates:
        """Mean over the real frames of each layer: (B, L, 1, D), what a head that `needs` only means is fed."""
        weights = self.mask[:, None, :, None].to(self.states.dtype)  # (B, 1, T, 1)
        total = (self.states * weights).sum(2, keepdim=True)  # (B, L, 1, D)
        return HiddenStates(total / self.lengths[:, None, None, None], torch.ones_like(self.lengths))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> HiddenStates:
        """The same states on another device, optionally as another dtype."""
        return HiddenStates(self.states.to(device, dtype), self.lengths.to(device))


class StoredStates(HiddenStates):
    """Hidden states as they lie in a store, a tensor an utterance; one padded batch only where `states` is asked for.

    Args:
        rows: (L, T_i, D) of each utterance, in the precision that is stored.
    """

    rows: tuple[Tensor, ...]

    def __init__(self, rows: Iterable[Tensor]) -> None:
        set_field = partial(object.__setattr__, self)  # the class it extends is frozen
        set_field("rows", tuple(rows))
        set_field("lengths", torch.tensor([row.shape[1] for row in self.rows], dtype=torch.int64))

    @cached_property
    def states(self) -> Tensor:
        """(B, L, T, D), in their precision, or float32 if they have several."""
        return HiddenStates.collate(list(self.rows)).states

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, True = real."""
        return length_mask(self.lengths, int(self.lengths.max()))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> StoredStates:
        """The same rows on another device, optionally as another dtype."""
        moved = StoredStates(row.to(device, dtype) for row in self.rows)
        object.__setattr__(moved, "lengths", self.lengths.to(device))
        return moved


@dataclass(frozen=True)
class Frames:
    """One feature sequence an utterance: the output of the layer sum. Padding frames may hold anything finite."""

    features: Tensor  # (B, T, D) floating point
    lengths: Tensor  # (B,) int64, real frames of each row

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, True = real."""
        return length_mask(self.lengths, self.features.shape[1])


class PackedFrames(Frames):
    """Frames without padding; one padded batch only where `features` is asked for.

    Where `dataclasses.replace` would be used, make new `Frames` of what is replaced.

    Args:
        rows: (N, D), the real frames of all utterances, one utterance after the other.
        lengths: (B,) int64, which sum to N.
    """

    rows: Tensor

    def __init__(self, rows: Tensor, lengths: Tensor) -> None:
        set_field = partial(object.__setattr__, self)  # the class it extends is frozen
        set_field("rows", rows)
        set_field("lengths", lengths)

    @cached_property
    def features(self) -> Tensor:
        """(B, T, D), zero on padding."""
        mask = self.mask  # (B, T)
        places = mask.flatten().nonzero().squeeze(1)  # (N,) of B T
        padded = self.rows.new_zeros(mask.numel(), self.rows.shape[1])  # (B T, D)
        # Not pad_sequence, whose gradient copies the whole batch once for each utterance.
        return padded.index_copy(0, places, self.rows).unflatten(0, mask.shape)

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, True = real."""
        return length_mask(self.lengths, int(self.lengths.max()))


@dataclass(frozen=True)
class StreamBatch:
    """What each stream of several gives for one batch of utterances: hidden states, or the audio for an upstream.

    Streams have their own L, T and D, and their own lengths.
    """

    streams: Mapping[str, HiddenStates | WaveBatch]  # by the stream's name

    def means(self) -> StreamBatch:
        """Of each stream's hidden states, the mean over the real frames."""
        return StreamBatch({name: one.means() for name, one in self.streams.items() if isinstance(one, HiddenStates)})

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> StreamBatch:
        """The same batch on another device, hidden states optionally as another dtype."""
        moved = {
            name: one.to(device) if isinstance(one, WaveBatch) else one.to(device, dtype)
            for name, one in self.streams.items()
        }
        return StreamBatch(moved)


@dataclass(frozen=True)
class StreamShape:
    """What a downstream must know of a stream. The times are those of several streams, which are aligned by them."""

    num_layers: int  # L, layer 0 included
    hidden_size: int  # D
    hop: float = math.inf  # seconds between frames; infinite where every clip has one
    start: float = 0.0  # seconds from the clip's beginning to the middle of its first frame


def one_stream(num_layers: int, hidden_size: int) -> dict[str, StreamShape]:
    """The shapes of an upstream that is the only one."""
    return {ALONE: StreamShape(num_layers, hidden_size)}
