"""How fast `extract` goes through a sample of a corpus, for `undertone bench`: in each precision, means and frames.

Means are what a head that is linear up to its pooling needs; frames have to be converted and written too, which takes
longer than the pass itself on a fast GPU.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from undertone.common.console import Advance
from undertone.corpora.manifest import Utterance
from undertone.upstream.base import Upstream
from undertone.upstream.execution import MOST as STREAMS
from undertone.upstream.precision import native_precision, own_precision, precisions_of
from undertone.upstream.store.extract import BATCH_SECONDS, extract
from undertone.upstream.store.manage import free_bytes, stored_bytes
from undertone.upstream.store.store import Kind, Store

SAMPLE_BYTES = 2 * 10**9  # of states that a sample may leave on the disk while it is measured
FILLED = 0.8  # of the time that is left, which the next sample should take
TRUST = 3  # times as large a sample is taken on the word of a set-up, which may be measured badly


def name_of(precision: str) -> str:
    """What the bench calls a `mixed_precision`: `no` is `float32`, others are themselves."""
    return "float32" if precision == "no" else precision


def precisions(device: torch.device, upstream: Upstream, used: str = "no") -> list[str]:
    """The values of `mixed_precision` to measure: `no`, those that are fast on the device, and the one that is `used`.

    A precision that the device has not, or that changes nothing in this upstream, is left out.
    """
    tried = dict.fromkeys(("no", native_precision(device), "int8", used))
    return [one for one in tried if one in precisions_of(device) and own_precision(upstream, one) == one]


def spread(items: Sequence[Utterance], count: int) -> list[Utterance]:
    """Of `items` so many, evenly over their lengths, the shortest first; all of them if there are fewer."""
    ordered = sorted(items, key=lambda item: (item.duration, item.id))
    if count >= len(ordered):
        return ordered
    return [ordered[int((place + 0.5) * len(ordered) / count)] for place in range(count)]


def clips_for(upstream: Upstream, items: Iterable[Utterance]) -> list[Utterance]:
    """Those that the upstream takes, each sound once.

    Raises:
        ValueError: it takes none.
    """
    distinct = {item.audio_hash: item for item in items if item.duration <= upstream.max_seconds}
    if not distinct:
        raise ValueError(
            f"Every clip is longer than the {upstream.max_seconds:g} s that {upstream.name} takes at once."
        )
    return list(distinct.values())


def speed_and_setup(few: tuple[float, float], sample: tuple[float, float]) -> tuple[float, float]:
    """(s of audio, s that it took) of a few clips and of a sample -> s of audio a second, s of the set-up."""
    audio, seconds = sample[0] - few[0], sample[1] - few[1]
    if audio <= few[0] or seconds <= 0:  # too close to tell them apart
        return sample[0] / max(sample[1], 1e-9), 0.0
    return audio / seconds, max(0.0, few[1] - few[0] * seconds / audio)


class Clock:
    """A bar over the seconds that are planned, whatever each stage really takes."""

    def __init__(self, advance: Advance, total: float) -> None:
        self.advance, self.total, self.before = advance, total, 0.0
        self.planned, self.note, self.began = 0.0, "", time.monotonic()

    @property
    def left(self) -> float:
        """Seconds of the stage that are left."""
        return self.planned - (time.monotonic() - self.began)

    def stage(self, note: str, planned: float) -> None:
        """Start one that should take so many seconds."""
        self.before, self.planned, self.note, self.began = self.before + self.planned, planned, note, time.monotonic()
        self.tick()

    def tick(self) -> None:
        """Show how far it is."""
        done = self.before + min(self.planned, self.planned - self.left)
        self.advance(min(done, self.total), self.total, self.note)

    def end(self) -> None:
        """Show that all is done."""
        self.advance(self.total, self.total, "")


@dataclass(frozen=True)
class Sampling:
    """Times `extract` on samples of a corpus.

    Attributes:
        upstream: on `device`, in eval mode.
        clips: as `clips_for` gives them.
        dtype: of stored frames.
        device: where it computes.
        folder: where stores are written, each until it has been timed.
        clock: shows how far it is.
    """

    upstream: Upstream
    clips: list[Utterance]
    dtype: str
    device: torch.device
    folder: Path
    clock: Clock

    def row(self, precision: str, kind: Kind, planned: float) -> dict[str, Any]:
        """Speed of an extraction, by what a sample takes beyond what a few clips take, and seconds of its set-up.

        Samples grow while there is time: where the set-up takes long, the first one is too small, as a few clips do not
        tell it from the rest.

        Args:
            precision: a value of `mixed_precision`.
            kind: what is stored.
            planned: seconds to take, as far as the clips last; three times the few clips are measured in any case.
        """
        self.clock.stage(f"extraction, {name_of(precision)}, {kind}", planned)
        length = math.fsum(item.duration for item in self.clips) / len(self.clips)
        at_once = min(STREAMS, torch.get_num_threads())
        if self.device.type == "cuda":  # a batch
            at_once = math.ceil(BATCH_SECONDS / length)
        sample = few = spread(self.clips, at_once)
        passes = [self._timed(few, precision, kind) for _ in range(2)]  # the first with all that only a first call does
        took = few_took = min(passes, key=lambda one: one[1])
        room = min(SAMPLE_BYTES, free_bytes(self.folder) // 4)
        most = min(len(self.clips), room // max(1, stored_bytes(self.upstream, [length], kind, self.dtype)))
        while True:
            speed, setup = speed_and_setup(few_took, took)
            in_step = FILLED * self.clock.left / max(took[1], 1e-9) * len(sample)  # as if the set-up grew with it
            by_speed = FILLED * (self.clock.left - setup) * speed / length
            expected = int(min(max(in_step, by_speed), TRUST * in_step))
            count = max(3 * at_once, min(most, expected))
            if min(count, len(self.clips)) <= len(sample):
                break
            sample = spread(self.clips, count)
            took = self._timed(sample, precision, kind)
        return {
            "precision": name_of(precision),
            "kind": kind,
            "clips": len(sample),
            "audio_s": round(took[0], 2),
            "seconds": round(took[1], 3),
            "audio_s_per_s": round(speed, 3),
            "setup_s": round(setup, 3),
        }

    def _timed(self, clips: Sequence[Utterance], precision: str, kind: Kind) -> tuple[float, float]:
        """(s of audio, s that it took) of a new store."""
        folder = self.folder / f"{name_of(precision)}-{kind}"
        store = Store(folder, self.upstream, kind, self.dtype, precision)
        done = extract(self.upstream, clips, store, device=self.device, progress=lambda *_: self.clock.tick())
        if done.broken:
            raise ValueError(f"{done.broken[0][0]}: {done.broken[0][1]}")
        shutil.rmtree(folder)
        return done.audio_seconds, done.seconds
