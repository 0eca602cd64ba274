"""Run a frozen upstream over utterances, each distinct sound once, into a store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from undertone.audio.read import AudioError, read_audio
from undertone.upstream.base import Upstream, too_long
from undertone.upstream.store import Store
from undertone.upstream.types import HiddenStates, WaveBatch

BATCH_SECONDS = 80.0  # padded sound in a batch on an accelerator
READ_AHEAD = 3  # batches decoded while the upstream works
NOT_FINITE = "gives hidden states with NaN or infinity for it; if it does so for every file, its weights are broken."


class Clip(Protocol):
    """A stretch of a sound file, such as an utterance of a manifest."""

    @property
    def audio_hash(self) -> str:
        """Of its content: equal sounds have equal hashes."""

    @property
    def path(self) -> str | Path:
        """The file."""

    @property
    def start(self) -> float | None:
        """Seconds into the file, or None for its beginning."""

    @property
    def end(self) -> float | None:
        """Seconds into the file, or None for its end."""

    @property
    def duration(self) -> float:
        """Seconds."""


@dataclass(frozen=True)
class ExtractionReport:
    """What an extraction did.

    Attributes:
        audio_seconds: of the sounds that were computed.
        seconds: wall clock.
        computed: distinct sounds that went through the upstream.
        reused: distinct sounds that were in the store.
        broken: (path, reason) of the sounds that were set aside.
    """

    audio_seconds: float
    seconds: float
    computed: int
    reused: int
    broken: list[tuple[str, str]]


def extract(
    upstream: Upstream,
    clips: Iterable[Clip],
    store: Store,
    *,
    device: torch.device | str = "cpu",
    batch_seconds: float = BATCH_SECONDS,
    progress: Callable[[float], None] | None = None,
) -> ExtractionReport:
    """Put the hidden states of all `clips` into `store`; what is there is left, what is broken is set aside.

    Interrupted at any moment, it goes on from the last shard when called again.

    Args:
        upstream: moved to `device` and put in eval mode.
        clips: utterances; several with one `audio_hash` are computed once.
        store: made for `upstream`.
        device: on `cpu` utterances go one by one, which is faster than padding them.
        batch_seconds: s of padded sound in a batch on other devices.
        progress: called with the share done, 0..1, after each batch.
    """
    began = time.monotonic()
    upstream.to(device).eval()
    distinct: dict[str, Clip] = {}
    for clip in clips:
        distinct.setdefault(clip.audio_hash, clip)
    todo = [distinct[key] for key in store.missing(distinct)]
    job = _Job(upstream, torch.device(device), store, progress, sum(clip.duration for clip in todo))
    limit = 0.0 if job.device.type == "cpu" else batch_seconds
    store.add(job.states(plan_batches(todo, limit)))
    return ExtractionReport(
        audio_seconds=job.audio_seconds,
        seconds=time.monotonic() - began,
        computed=job.computed,
        reused=len(distinct) - len(todo),
        broken=job.broken,
    )


def plan_batches(clips: Sequence[Clip], batch_seconds: float) -> list[list[Clip]]:
    """Clips of like length together, the longest first: at most `batch_seconds` with padding, or one clip."""
    batches: list[list[Clip]] = []
    for clip in sorted(clips, key=lambda clip: -clip.duration):
        if batches and batches[-1][0].duration * (len(batches[-1]) + 1) <= batch_seconds:
            batches[-1].append(clip)
        else:
            batches.append([clip])
    return batches


class _Job:
    """One extraction: counts, and the stream of states that the store takes."""

    def __init__(
        self,
        upstream: Upstream,
        device: torch.device,
        store: Store,
        progress: Callable[[float], None] | None,
        total_seconds: float,
    ) -> None:
        self.upstream, self.device, self.store = upstream, device, store
        self.progress, self.total_seconds = progress, total_seconds
        self.computed, self.audio_seconds = 0, 0.0
        self.broken: list[tuple[str, str]] = []

    def states(self, batches: list[list[Clip]]) -> Iterator[tuple[str, Tensor]]:
        """(audio_hash, (L, T, D) or (L, 1, D)) of every sound that gives finite states."""
        done = 0.0
        for batch, waves in self._read_ahead(batches):
            good = [(clip, wave) for clip, wave in zip(batch, waves, strict=True) if isinstance(wave, Tensor)]
            self.broken += [(wave.path, wave.reason) for wave in waves if isinstance(wave, AudioError)]
            if good:
                yield from self._forward([clip for clip, _ in good], [wave for _, wave in good])
            done += sum(clip.duration for clip in batch)
            if self.progress is not None:
                self.progress(min(1.0, done / self.total_seconds) if self.total_seconds else 1.0)

    def _forward(self, clips: list[Clip], waves: list[Tensor]) -> Iterator[tuple[str, Tensor]]:
        with torch.inference_mode():
            batch = WaveBatch.collate(waves, self.upstream.sample_rate).to(self.device)
            output: HiddenStates = self.upstream(batch)
            output = self.store.reduce(output).to("cpu")
        for clip, wave, states, length in zip(clips, waves, output.states, output.lengths.tolist(), strict=True):
            if not torch.isfinite(states).all():
                self.broken.append((str(clip.path), f"{self.upstream.name} {NOT_FINITE}"))
                continue
            self.computed += 1
            self.audio_seconds += len(wave) / self.upstream.sample_rate
            yield clip.audio_hash, states[:, :length]  # (L, T, D)

    def _read_ahead(self, batches: list[list[Clip]]) -> Iterator[tuple[list[Clip], list[Tensor | AudioError]]]:
        """Each batch with its decoded waves, or the errors instead; a thread decodes the next ones meanwhile."""
        waiting: deque[tuple[list[Clip], Future[list[Tensor | AudioError]]]] = deque()
        with ThreadPoolExecutor(1) as pool:
            try:
                for batch in batches:
                    waiting.append((batch, pool.submit(self._read, batch)))
                    if len(waiting) > READ_AHEAD:
                        first, future = waiting.popleft()
                        yield first, future.result()
                for first, future in waiting:
                    yield first, future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _read(self, batch: list[Clip]) -> list[Tensor | AudioError]:
        waves: list[Tensor | AudioError] = []
        for clip in batch:
            try:
                wave = read_audio(clip.path, self.upstream.sample_rate, clip.start, clip.end)
                self._check_length(clip, wave)
                waves.append(wave)
            except AudioError as error:
                waves.append(error)
        return waves

    def _check_length(self, clip: Clip, wave: Tensor) -> None:
        seconds, limit = len(wave) / self.upstream.sample_rate, self.upstream.max_seconds
        if seconds > limit:
            raise AudioError(clip.path, f"{self.upstream.name} {too_long(seconds, limit)}")
