"""Live audio: samples are pushed as they come, predictions of windows are given as soon as these are complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from undertone.audio.read import RATES, AudioError, resampled
from undertone.downstream.model import UndertoneModel
from undertone.downstream.transformers_model import TransformersModel
from undertone.inference.format import Prediction
from undertone.inference.recordings import MOST_CHANNELS
from undertone.inference.waves import check_sound_alone, predict_waves
from undertone.inference.windows import window_row, window_seconds


class Stream:
    """Windows of audio that has no end yet: those that `predict_windows` gives for the same audio in a file.

    It holds the samples of one window, however long it runs.

    Args:
        model: on its device, in eval mode.
        sample_rate: Hz of what is pushed.
        window: seconds; None: as `window_seconds`.
        hop: seconds; None: half a window.
        any_sound: predict what is no speech too.

    Attributes:
        seconds: that were pushed.

    Example:
        >>> stream = model.stream(16_000, window=3, hop=1)  # doctest: +SKIP
        >>> for piece in microphone:  # doctest: +SKIP
        ...     for row in stream.push(piece):
        ...         print(row["start"], row["emotion"]["label"])
    """

    def __init__(
        self,
        model: UndertoneModel | TransformersModel,
        sample_rate: int,
        *,
        window: float | None = None,
        hop: float | None = None,
        any_sound: bool = False,
    ) -> None:
        if not isinstance(sample_rate, int) or not RATES[0] <= sample_rate <= RATES[1]:
            raise ValueError(f"sample_rate={sample_rate!r} must be a whole number of Hz, {RATES[0]} to {RATES[1]}.")
        check_sound_alone(model, "A stream is")
        seconds, step, _ = window_seconds(model, window, hop)
        self.model, self.sample_rate, self.any_sound = model, sample_rate, any_sound
        self._window, self._hop = max(1, round(seconds * sample_rate)), max(1, round(step * sample_rate))
        self._kept = np.zeros(self._window, np.float32)
        self._first = self._held = 0  # the sample of the file that `_kept` begins with, and how many it holds
        self._given = 0  # the end of the last window
        self._closed = False

    @property
    def seconds(self) -> float:
        """Seconds that were pushed."""
        return (self._first + self._held) / self.sample_rate

    def push(self, samples: np.ndarray | torch.Tensor | Sequence[float]) -> list[Prediction]:
        """Add samples; returns the windows that they complete, as `predict_windows` gives them.

        Args:
            samples: (N,) mono floats in [-1, 1], N >= 0; (N, channels) are averaged.

        Raises:
            ValueError: of another shape or type, or the stream was closed.
        """
        if self._closed:
            raise ValueError("This stream is closed. Open another with model.stream(sample_rate).")
        piece = _mono(samples)
        rows: list[Prediction] = []
        while len(piece):
            count = min(len(piece), self._window - self._held)
            self._kept[self._held : self._held + count] = piece[:count]
            self._held, piece = self._held + count, piece[count:]
            if self._held == self._window:
                rows.append(self._predict())
                self._kept[: self._window - self._hop] = self._kept[self._hop :]
                self._held, self._first = self._window - self._hop, self._first + self._hop
        return rows

    def close(self) -> list[Prediction]:
        """End the stream; returns the last window, cut at the end, unless the one before reached it."""
        self._closed = True
        return [self._predict()] if self._first + self._held > self._given else []

    def run(self, pieces: Iterator[np.ndarray]) -> Iterator[Prediction]:
        """Push every piece, then close."""
        for piece in pieces:
            yield from self.push(piece)
        yield from self.close()

    def _predict(self) -> Prediction:
        samples, first = self._kept[: self._held].copy(), self._first
        self._given = first + self._held
        if not np.isfinite(samples).all():
            found: Any = AudioError("stream", f"{np.count_nonzero(~np.isfinite(samples))} samples are NaN or infinite.")
        else:
            wave = resampled(torch.from_numpy(samples), self.sample_rate, self.model.sample_rate)
            (found,) = predict_waves(self.model, [wave], any_sound=self.any_sound)
        return window_row(first, self._given, self.sample_rate, found, {})


def _mono(samples: Any) -> np.ndarray:
    """(N,) float32."""
    try:
        array = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"push() takes (N,) floats in [-1, 1], got a {type(samples).__name__}.") from error
    if array.size == 0 and array.ndim == 1:
        return np.zeros(0, np.float32)
    if array.ndim not in (1, 2) or array.dtype.kind != "f" or (array.ndim == 2 and array.shape[1] > MOST_CHANNELS):
        raise ValueError(
            f"push() takes (N,) or (N, channels) floats in [-1, 1], got shape {array.shape} of {array.dtype}. "
            f"Divide 16 bit integers by 32768."
        )
    array = array.astype(np.float32, copy=False)
    return array if array.ndim == 1 else array[:, 0] if array.shape[1] == 1 else array.mean(axis=1)  # (N,)
