"""Augmented training batches and copies; every draw depends only on (seed, step or copy, utterance id)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from undertone.audio.augment import (
    add_noise,
    change_level,
    change_speed,
    noise_of_length,
    read_noises,
    reverberate,
    room_response,
    white_noise,
)
from undertone.audio.batches import ahead
from undertone.audio.channel import band_limited
from undertone.audio.read import read_audio
from undertone.corpora.prepare import hash_audio
from undertone.downstream.head import head_class
from undertone.training.augmentation import MASKS, WAVES, Augmentation
from undertone.training.seeding import chunks, draw, generator_of
from undertone.training.sources import Source, batch_of
from undertone.upstream.types import HiddenStates, StreamBatch, WaveBatch, length_mask

if TYPE_CHECKING:
    from undertone.corpora.manifest import Utterance
    from undertone.downstream.task import Task
    from undertone.training.config import RunConfig
    from undertone.upstream.base import Upstream

AT_ONCE = 16  # copies that a thread makes at a time

Batch = HiddenStates | WaveBatch | StreamBatch
Copies = Mapping[tuple[int, int, str], "Utterance"]  # by seed, number and utterance id


class Augmenter:
    """Utterances and a step -> an augmented training batch.

    Args:
        settings: what is changed, and how far.
        seed: of the training.
        sample_rate: Hz, of the audio.
        source: of clean batches, where the audio is not changed.
        compute: changed audio -> the module's input, the hidden states of a frozen upstream; None: the audio itself.
        sees: whether the upstream looks at pictures, which are not changed.
        stored: the copies whose hidden states `source` has, looked up at every batch; None: they are computed again.
    """

    def __init__(
        self,
        settings: Augmentation,
        seed: int,
        sample_rate: int,
        source: Source,
        compute: Callable[[WaveBatch], Batch] | None = None,
        sees: bool = False,
        stored: Copies | None = None,
    ) -> None:
        self.sees, self.stored = sees, stored
        self.settings, self.seed, self.sample_rate = settings, seed, sample_rate
        self.source, self.compute = source, compute
        files = settings.noise_files if settings.noise is not None else None
        self.noises = list(read_noises(files, sample_rate).values()) if files is not None else []

    def __call__(self, utterances: Sequence[Utterance], step: int) -> tuple[Batch, float]:
        """The batch, and the weight of the utterances themselves in it; the rest is that of their `partners`.

        With `copies`, each utterance is at each step the utterance itself or one of its copies, as likely each.
        """
        numbers = [step] * len(utterances)
        if self.settings.copies:
            choices = 1 + self.settings.copies
            numbers = [draw(self.seed, "copy", step, utterance.id) % choices for utterance in utterances]
        batch = self.changed(utterances, numbers)
        if isinstance(batch, HiddenStates) and (self.settings.time_mask or self.settings.feature_mask):
            batch = self._masked(batch, utterances, step)
        if not self.settings.mixup:
            return batch, 1.0
        random = np.random.default_rng(draw(self.seed, "mixup", step, utterances[0].id))
        weight = float(random.beta(self.settings.mixup, self.settings.mixup))
        return mixed(batch, weight), weight

    def changed(self, utterances: Sequence[Utterance], numbers: Sequence[int]) -> Batch:
        """The batch of utterances whose audio is changed as `wave` says."""
        if not self.settings.on_waves:
            return self.source(utterances)
        pairs = list(zip(utterances, numbers, strict=True))
        if self.settings.copies and self.stored is not None:
            return self.source([self.stored[self.seed, number, one.id] if number else one for one, number in pairs])
        waves = [self.wave(one, number) for one, number in pairs]
        batch = batch_of(waves, utterances, self.sample_rate, self.sees)
        return batch if self.compute is None else self.compute(batch)

    def wave(self, utterance: Utterance, number: int) -> Tensor:
        """(N',) samples of one utterance: speed, room, noise, level and band, each with the probability `share`.

        The number decides how: that of a step, or with `copies` that of a copy, 0 being the utterance itself.
        """
        settings, generator = self.settings, generator_of(self.seed, "augment", number, utterance.id)
        wave = read_audio(utterance.path, self.sample_rate, utterance.start, utterance.end)
        if settings.copies and not number:
            return wave
        chosen = (torch.rand(4, generator=generator) < settings.share).tolist()
        amount = torch.rand(4, generator=generator).tolist()
        if settings.speed and chosen[0]:
            wave = change_speed(wave, 1 + settings.speed * (2 * amount[0] - 1), self.sample_rate)
        if settings.reverb and chosen[1]:
            seconds = max(settings.reverb * amount[1], 2 / self.sample_rate)
            wave = reverberate(wave, room_response(seconds, self.sample_rate, generator))
        if settings.noise is not None and chosen[2]:
            low, high = settings.noise
            wave = add_noise(wave, self._noise(len(wave), generator), low + (high - low) * amount[2])
        if settings.gain and chosen[3]:
            wave = change_level(wave, settings.gain * (2 * amount[3] - 1))
        low, high, nyquist = 0.0, math.inf, self.sample_rate / 2
        if settings.lowpass:  # drawn last, as is the next: what the others draw stays what it was without them
            cut, octaves = torch.rand(2, generator=generator).tolist()
            high = nyquist * (settings.lowpass / nyquist) ** octaves if cut < settings.share else high
        if settings.highpass:
            cut, fraction = torch.rand(2, generator=generator).tolist()
            low = settings.highpass * fraction if cut < settings.share else low
        if low or high < math.inf:
            wave = band_limited(wave, self.sample_rate, low, high)
        return wave

    @staticmethod
    def partners(utterances: Sequence[Utterance]) -> list[Utterance]:
        """The utterance that each is mixed with: the one before it, the last for the first."""
        return [*utterances[-1:], *utterances[:-1]]

    def _noise(self, length: int, generator: torch.Generator) -> Tensor:
        if not self.noises:
            return white_noise(length, generator)
        choice = int(torch.randint(len(self.noises), (1,), generator=generator))
        return noise_of_length(self.noises[choice], length, generator)

    def _masked(self, batch: HiddenStates, utterances: Sequence[Utterance], step: int) -> HiddenStates:
        """SpecAugment without warping (Park et al. 2019): a range of frames and one of features set to 0."""
        states = batch.states.clone()
        for row, length, utterance in zip(states, batch.lengths.tolist(), utterances, strict=True):
            generator = generator_of(self.seed, "masks", step, utterance.id)
            start, end = _random_range(self.settings.time_mask, length, generator)
            row[:, start:end] = 0
            start, end = _random_range(self.settings.feature_mask, row.shape[2], generator)
            row[:, :, start:end] = 0
        return HiddenStates(states, batch.lengths)


def _random_range(longest: int, size: int, generator: torch.Generator) -> tuple[int, int]:
    """Start and end of a range of 0 to `longest` of `size` places; never all of them."""
    width = int(torch.randint(min(longest, size - 1) + 1, (1,), generator=generator))
    start = int(torch.randint(size - width + 1, (1,), generator=generator))
    return start, start + width


def mixed(batch: Batch, weight: float) -> Batch:
    """Mixup (Zhang et al. 2018): weight * row + (1 - weight) * partner, cut or padded to the row's length."""
    if isinstance(batch, StreamBatch):
        return StreamBatch({name: cast(Any, mixed(one, weight)) for name, one in batch.streams.items()})
    if isinstance(batch, HiddenStates):
        states = batch.states.float()  # the store may hold half precision
        return HiddenStates(torch.lerp(states.roll(1, 0), states, weight) * batch.mask[:, None, :, None], batch.lengths)
    real = length_mask(batch.lengths, batch.samples.shape[1])
    return replace(batch, samples=torch.lerp(batch.samples.roll(1, 0), batch.samples, weight) * real)


def changed_copies(augmenter: Augmenter, utterances: Sequence[Utterance], number: int) -> list[Utterance]:
    """Copy `number` (from 1) of each utterance: its samples are those of the augmenter at that step.

    The `audio_hash` is that of the changed samples, so that a store keeps their hidden states as those of any clip,
    whatever settings, noise or version of a library has led to them.
    """

    def work(batch: Sequence[Utterance]) -> list[Utterance]:
        waves = (augmenter.wave(utterance, number) for utterance in batch)
        hashes = [hash_audio(wave.numpy(), augmenter.sample_rate) for wave in waves]
        return [replace(one, audio_hash=digest) for one, digest in zip(batch, hashes, strict=True)]

    return [copy for _, copies in ahead(chunks(utterances, AT_ONCE), work) for copy in copies]


def check_cutoffs(settings: Augmentation, sample_rate: int) -> None:
    """Refuse a cutoff that removes nothing from audio of this rate, or leaves nothing of it."""
    if 0 < settings.lowpass < 2 * settings.highpass:
        raise ValueError(
            f"augment.lowpass={settings.lowpass:g} and augment.highpass={settings.highpass:g} leave under an octave "
            f"of speech. Use a lowpass of at least twice the highpass, such as 2000 and 400."
        )
    if settings.lowpass >= sample_rate / 2:
        raise ValueError(
            f"augment.lowpass={settings.lowpass:g} Hz removes nothing from audio of {sample_rate} Hz. "
            f"Use less than {sample_rate // 2}, such as {sample_rate // 8}."
        )


def check_augmentation(config: RunConfig, tasks: Sequence[Task], upstream: Upstream) -> None:
    """Refuse augmentation that this head, mode, task or upstream (its sample rate, whether it sees) cannot use."""
    check_cutoffs(config.augment, upstream.sample_rate)
    settings, sees, head = config.augment, upstream.sees, head_class(config.head)
    masks = [name for name in MASKS if getattr(settings, name)]
    if settings.copies and not settings.on_waves:
        raise ValueError(
            f"augment.copies={settings.copies} needs a change of the audio: add one of "
            f"{', '.join(f'augment.{name}' for name in WAVES)}."
        )
    if not settings.is_on:
        return
    if head.is_fitted and (masks or settings.mixup):
        name = [*masks, "mixup"][0]
        raise ValueError(f"augment.{name} changes batches, and head {config.head!r} is fitted once. Leave it out.")
    if head.is_fitted and not settings.copies:
        raise ValueError(
            f"Head {config.head!r} is fitted once, so its input cannot change at every update. Say how many augmented "
            f"copies of each utterance it is also fitted on, as augment.copies=2, or leave augment out."
        )
    if any(task.level == "frame" for task in tasks) and (settings.speed or settings.mixup):
        raise ValueError("augment.speed and augment.mixup move values over time away from their times. Leave them out.")
    if sees and (settings.speed or settings.copies or (settings.mixup and config.trained != "frozen")):
        name = "speed" if settings.speed else "copies" if settings.copies else "mixup"
        raise ValueError(f"augment.{name} changes the sound, and not the pictures that go with it. Leave it out.")
    if config.has_streams and (masks or settings.copies):
        name = [*masks, "copies"][0]
        raise ValueError(
            f"augment.{name} is for one upstream without a name; streams process audio that is changed once for all of "
            f"them: {', '.join(f'augment.{one}' for one in WAVES)}."
        )
    if masks and (config.mode != "frozen" or head.needs == "mean"):
        raise ValueError(
            f"augment.{masks[0]} masks the frames of a frozen upstream, and mode={config.mode} with head "
            f"{config.head!r} does not train on these. Leave it out, or use mode=frozen and head=attention."
        )
