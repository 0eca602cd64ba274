"""Run a frozen upstream over utterances, each distinct clip once, into a store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from undertone.audio.batches import ahead, plan_batches
from undertone.audio.read import AudioError
from undertone.upstream.base import Upstream, read_clip
from undertone.upstream.execution import in_halves, side_by_side
from undertone.upstream.linear_layers import packed
from undertone.upstream.precision import autocast, check_precision
from undertone.upstream.store.store import Clip, Store
from undertone.upstream.types import HiddenStates, Wave, WaveBatch

BATCH_SECONDS = 80.0  # padded audio in a batch on an accelerator
NOT_FINITE = "gives hidden states with NaN or infinity for it; if it does so for every file, its weights are broken."


@dataclass(frozen=True)
class ExtractionReport:
    """What an extraction did."""

    audio_seconds: float  # of the clips that were computed
    seconds: float  # wall clock
    computed: int  # distinct clips that went through the upstream
    reused: int  # distinct clips that were in the store
    broken: list[tuple[str, str]]  # (path, reason) of the clips that were skipped


def extract(
    upstream: Upstream,
    clips: Iterable[Clip],
    store: Store,
    *,
    device: torch.device | str = "cpu",
    batch_seconds: float = BATCH_SECONDS,
    progress: Callable[[float, float], None] | None = None,
    read: Callable[[Any], Tensor] | None = None,
) -> ExtractionReport:
    """Put the hidden states of all `clips` into `store`; what is there is kept, what is broken is skipped.

    Interrupted at any moment, it goes on from the last shard when called again.

    Args:
        upstream: moved to `device` and put in eval mode.
        clips: utterances; several with one key (`Store.key`) are computed once.
        store: made for `upstream`.
        device: on `cpu` utterances go one by one, which is faster than padding them, and as many side by side as torch
            has threads, which is faster than splitting each.
        batch_seconds: s of padded audio in a batch on other devices.
        progress: called with s of audio done and s in all, after each batch.
        read: a clip -> (N,) samples at the upstream's rate, in several threads; None: its stretch of its file.

    Raises:
        OSError: the disk is full; what was stored before is kept.
        ValueError: the device's memory does not hold one clip alone, or it computes wrongly in the store's precision.
    """
    began = time.monotonic()
    upstream.to(device).eval()
    distinct: dict[str, Clip] = {}
    for clip in clips:
        distinct.setdefault(store.key(clip), clip)
    todo = [distinct[key] for key in store.missing(distinct)]
    job = _Job(upstream, torch.device(device), store, progress, read, sum(clip.duration for clip in todo))
    limit = 0.0 if job.device.type == "cpu" else batch_seconds
    if todo:
        check_precision(upstream, job.device, store.precision)
    with packed(upstream, store.precision) if todo else nullcontext():
        store.add(job.states(plan_batches(todo, lambda clip: clip.duration, limit)))
    return ExtractionReport(
        audio_seconds=job.audio_seconds,
        seconds=time.monotonic() - began,
        computed=job.computed,
        reused=len(distinct) - len(todo),
        broken=job.broken,
    )


def clips_of_process(clips: Iterable[Clip], rank: int, num_processes: int, key: Callable[[Clip], str]) -> list[Clip]:
    """The clips with distinct keys (`Store.key`) of one process; each gets about as many clips and seconds."""
    distinct = {key(clip): clip for clip in clips}
    by_length = [clip for _, clip in sorted(distinct.items(), key=lambda item: (-item[1].duration, item[0]))]
    turns = [by_length[start : start + num_processes] for start in range(0, len(by_length), num_processes)]
    ordered = [turn if number % 2 == 0 else turn[::-1] for number, turn in enumerate(turns)]  # 0 1 1 0 0 1 1 0
    return [turn[rank] for turn in ordered if rank < len(turn)]


Read = tuple[Clip, Wave | AudioError]  # a clip with its wave, or why it cannot be read
Outcome = tuple[Clip, Tensor | AudioError, float]  # what the store keeps of a clip, or why it is skipped; s computed


@dataclass
class _Job:
    """One extraction: counts, and the stream of states that the store takes."""

    upstream: Upstream
    device: torch.device
    store: Store
    progress: Callable[[float, float], None] | None
    read: Callable[[Any], Tensor] | None
    total_seconds: float
    computed: int = 0
    audio_seconds: float = 0.0
    broken: list[tuple[str, str]] = field(default_factory=list)

    def states(self, batches: list[list[Clip]]) -> Iterator[tuple[str, Tensor]]:
        """(key, what the store keeps of its states) of every clip that gives finite ones."""
        done = 0.0
        for batch, outcomes in self._outcomes(batches):
            for clip, found, seconds in outcomes:
                if isinstance(found, AudioError):
                    self.broken.append((found.path, found.reason))
                    continue
                yield self.store.key(clip), found
                self.computed += 1
                self.audio_seconds += seconds
            done += sum(clip.duration for clip in batch)
            if self.progress is not None:
                self.progress(done, self.total_seconds)

    def _outcomes(self, batches: list[list[Clip]]) -> Iterator[tuple[Sequence[Clip], list[Outcome]]]:
        """Of each batch; a CPU works on several at once, an accelerator computes while threads read the next ones."""
        if self.device.type == "cpu":
            yield from side_by_side(self.upstream, batches, lambda twin, batch: self._compute(twin, self._read(batch)))
            return
        for batch, read in ahead(batches, self._read):
            yield batch, self._compute(self.upstream, read)

    def _read(self, batch: Sequence[Clip]) -> list[Read]:
        if self.read is not None:
            return [(clip, self.read(clip)) for clip in batch]
        return [
            (clip, read_clip(self.upstream, clip.path, clip.start, clip.end, clip.video, clip.boxes)) for clip in batch
        ]

    def _compute(self, upstream: Upstream, read: list[Read]) -> list[Outcome]:
        waves = [(clip, wave) for clip, wave in read if not isinstance(wave, AudioError)]
        outcomes: list[Outcome] = [(clip, error, 0.0) for clip, error in read if isinstance(error, AudioError)]
        if waves:
            compute = partial(self._forward, upstream)
            outcomes += in_halves(compute, waves, lambda pair: f"{pair[0].path} ({pair[0].duration:.1f} s)")
        return outcomes

    def _forward(self, upstream: Upstream, batch: Sequence[tuple[Clip, Wave]]) -> list[Outcome]:
        with torch.inference_mode():
            waves = WaveBatch.collate([wave for _, wave in batch], upstream.sample_rate).to(self.device)
            with autocast(self.device, self.store.precision):
                hidden: HiddenStates = upstream(waves)
            output = self.store.reduce(hidden.to(self.device, torch.float32))
            finite = torch.isfinite(output.states.abs().amax((1, 2, 3))).tolist()
            output = output.to("cpu")
        rows = zip(batch, output.states, output.lengths.tolist(), finite, strict=True)
        return [
            (clip, states[:, :length], len(wave) / upstream.sample_rate)  # (L, T, D)
            if good
            else (clip, AudioError(clip.path, f"{upstream.name} {NOT_FINITE}"), 0.0)
            for (clip, wave), states, length, good in rows
        ]
