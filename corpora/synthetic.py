"""A corpus of synthetic speech for trials and tests: no download, the same on every machine.

Each of the emotions angry, happy, neutral, sad changes pitch level, pitch contour, speaking rate, energy and spectral
tilt together. The emotions overlap, each speaker expresses them differently, and women and men differ, so that no
single cue separates them for a new speaker. A model's score here shows that it works, and says nothing about real
speech.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy.signal import lfilter, sosfilt

from undertone.common.files import atomic_path, draft_folder, remove_drafts
from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import DIMENSIONS

# ---- A synthetic voice: glottal pulses through formant resonators, after Klatt & Klatt, JASA 87 (1990), 820-857.

SAMPLE_RATE = 16000

_VOWELS_HZ = np.array(  # F1 to F4 of a man's a e i o u (Peterson & Barney, JASA 24 (1952), 175-184; F4 fixed)
    [
        [730, 1090, 2440, 3500],
        [530, 1840, 2480, 3500],
        [270, 2290, 3010, 3600],
        [570, 840, 2410, 3400],
        [300, 870, 2240, 3300],
    ]
)
_BANDWIDTHS_HZ = np.array([70.0, 100.0, 140.0, 220.0])
_OPEN_QUOTIENT = 0.6
_LEVEL = 0.04  # RMS at 0 dB
_FLOOR = 3e-4  # RMS of the recording's noise


@dataclass(frozen=True)
class Voice:
    """What is constant for a speaker.

    Attributes:
        pitch_hz: habitual pitch.
        formant_scale: formants relative to a man's; about 1.17 for a woman.
        tilt_db: habitual attenuation at 3 kHz.
        rate_hz: habitual syllables per second.
        gain_db: loudness of voice and recording.
        breath: aspiration noise relative to the pulses.
    """

    pitch_hz: float
    formant_scale: float
    tilt_db: float
    rate_hz: float
    gain_db: float
    breath: float


@dataclass(frozen=True)
class Prosody:
    """How an utterance differs from the speaker's habits.

    Attributes:
        pitch_st: pitch level, semitones.
        slope_st: rise (fall if negative) of the pitch from beginning to end, semitones.
        accent_st: height of the pitch accents, semitones.
        rate: factor on the speaking rate.
        energy_db: loudness.
        tilt_db: additional attenuation at 3 kHz; a pressed voice has less.
    """

    pitch_st: float
    slope_st: float
    accent_st: float
    rate: float
    energy_db: float
    tilt_db: float


def speak(voice: Voice, prosody: Prosody, rng: np.random.Generator) -> np.ndarray:
    """Synthesise a few random syllables, 1 to 2 s.

    Returns:
        (N,) float32 samples in [-1, 1] at `SAMPLE_RATE`.
    """
    rate = voice.rate_hz * prosody.rate
    num_syllables = max(3, round(rate * rng.uniform(1.1, 1.7)))
    lengths = np.round(SAMPLE_RATE / rate * rng.lognormal(0, 0.15, num_syllables)).astype(int)  # (S,)
    syllable = np.repeat(np.arange(num_syllables), lengths)  # (N,)
    place = np.concatenate([np.arange(length) / length for length in lengths])  # (N,) 0..1 within the syllable
    pitch = voice.pitch_hz * 2 ** (_contour(prosody, syllable, place, rng) / 12)  # (N,) Hz
    pulses = _pulses(pitch)
    breath = voice.breath * pulses.std() * rng.standard_normal(len(pulses))
    source = _tilted(pulses + breath, voice.tilt_db + prosody.tilt_db)
    wave = _resonate(source, _VOWELS_HZ[rng.integers(5, size=num_syllables)] * voice.formant_scale, syllable)
    wave *= np.minimum(1, 0.08 + 4 * place * (1 - place))  # consonants: the voice drops between syllables
    wave += _fricatives(wave.std(), syllable, place, rng)
    level = _LEVEL * 10 ** ((voice.gain_db + prosody.energy_db) / 20)
    wave = level * wave / np.sqrt(np.mean(wave**2)) + _FLOOR * rng.standard_normal(len(wave))
    clipped: np.ndarray = np.clip(wave, -1, 1).astype(np.float32)
    return clipped


def _contour(prosody: Prosody, syllable: np.ndarray, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pitch in semitones above the habitual one, (N,): level, slope, an accent on every other syllable, drift."""
    time = np.linspace(-0.5, 0.5, len(syllable))
    accented = (np.arange(syllable[-1] + 1) + rng.integers(2)) % 2 * rng.uniform(0.6, 1.4, syllable[-1] + 1)  # (S,)
    accents = prosody.accent_st * accented[syllable] * np.sin(np.pi * place)
    drift = np.interp(time, np.linspace(-0.5, 0.5, 12), 0.25 * rng.standard_normal(12))
    pitch: np.ndarray = prosody.pitch_st + prosody.slope_st * time + accents + drift
    return pitch


def _pulses(pitch: np.ndarray) -> np.ndarray:
    """Derivative of the glottal flow, KLGLOTT88: flow = a p^2 - b p^3 while the glottis is open. (N,) Hz -> (N,)."""
    phase = np.cumsum(pitch / SAMPLE_RATE) % 1
    return np.where(phase < _OPEN_QUOTIENT, 2 * phase - 3 * phase**2 / _OPEN_QUOTIENT, 0)


def _tilted(source: np.ndarray, tilt_db: float) -> np.ndarray:
    """One-pole low-pass that attenuates 3 kHz by `tilt_db` against 0 Hz: Klatt's parameter TL."""
    gain = 10 ** (-max(tilt_db, 0.1) / 10)
    middle = 1 - gain * np.cos(2 * np.pi * 3000 / SAMPLE_RATE)
    pole = (middle - np.sqrt(middle**2 - (1 - gain) ** 2)) / (1 - gain)
    filtered: np.ndarray = lfilter([1 - pole], [1, -pole], source)
    return filtered


def _resonate(source: np.ndarray, formants: np.ndarray, syllable: np.ndarray) -> np.ndarray:
    """A cascade of resonators per vowel (Klatt, JASA 67 (1980), 971-995), cross-faded.

    Args:
        source: (N,).
        formants: (S, 4) Hz, of each syllable.
        syllable: (N,), the number of the syllable that a sample is in.
    """
    numbers = np.arange(len(formants))
    centres = (np.searchsorted(syllable, numbers, "left") + np.searchsorted(syllable, numbers, "right")) / 2
    place = np.interp(np.arange(len(source)), centres, numbers)  # (N,) 0 at the first centre, S - 1 at the last
    wave = np.zeros_like(source)
    for number, hz in enumerate(formants):
        span = slice(*np.searchsorted(place, (number - 1, number + 1), "right"))
        wave[span] += (1 - abs(place[span] - number)) * sosfilt(_resonators(hz), source[span])
    return wave


def _resonators(hz: np.ndarray) -> np.ndarray:
    """Second-order sections with unit gain at 0 Hz: (4,) Hz -> (4, 6) b0 b1 b2 a0 a1 a2."""
    decay = np.exp(-np.pi * _BANDWIDTHS_HZ / SAMPLE_RATE)  # (4,)
    first = -2 * decay * np.cos(2 * np.pi * hz / SAMPLE_RATE)  # (4,)
    zero = np.zeros(4)
    return np.stack([1 + first + decay**2, zero, zero, zero + 1, first, decay**2], axis=1)  # (4, 6)


def _fricatives(level: float, syllable: np.ndarray, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """High-passed noise at the beginning of about half of the syllables, (N,)."""
    hissed = rng.uniform(0, 0.06, syllable[-1] + 1) * rng.integers(2, size=syllable[-1] + 1)  # (S,)
    noise = lfilter([1, -0.95], [1], rng.standard_normal(len(syllable)))
    hiss: np.ndarray = level * hissed[syllable] * noise * np.maximum(0, 1 - 4 * place)
    return hiss


# ---- The corpus.

CACHE = Path("~/.cache/undertone/synthetic")

# pitch_st, slope_st, accent_st, rate, energy_db, tilt_db (see Prosody): means, and standard deviations
_MEANS = {
    "angry": (3.0, -3.5, 2.5, 1.12, 4.0, -4.0),
    "happy": (3.5, 2.0, 3.5, 1.06, 2.0, -1.5),
    "neutral": (0.0, -1.5, 1.5, 1.0, 0.0, 0.0),
    "sad": (-0.5, -3.0, 0.8, 0.8, -3.5, 4.0),
}
_STD = np.array([1.8, 1.3, 0.6, 0.08, 2.0, 1.8])
_SPEAKER_STD = 0.6  # of a speaker's deviation in an emotion, relative to that of the utterances

_DIMENSIONS = {
    "angry": (0.8, 0.2, 0.8),
    "happy": (0.7, 0.85, 0.6),
    "neutral": (0.4, 0.5, 0.5),
    "sad": (0.2, 0.25, 0.25),
}


STEP = 0.04  # seconds between two values of a recording over time
SMOOTHED = 13  # of these values are averaged: from one utterance to the next in half a second


class Synthetic(Corpus):
    """Women F1, F2, ... and men M1, M2, ... in turn; determined by the seed."""

    name = "synthetic"
    licence = "none needed: synthetic"
    hub_licence = "cc0-1.0"
    url = "generated locally, from its seed"
    citation = "none"
    default_protocol = "speaker"

    def __init__(self, *, seed: int = 0, num_speakers: int = 8, per_emotion: int = 8, over_time: bool = False) -> None:
        """Check the options; `rows` synthesises the audio.

        Args:
            seed: of everything, >= 0.
            num_speakers: >= 1; more speakers do not change the first ones.
            per_emotion: utterances of each speaker and emotion, >= 1.
            over_time: recordings in which a speaker goes through all emotions, an utterance each, and arousal, valence
                and dominance over time in place of one emotion: train the tasks `series.arousal`, `series.valence`.
        """
        whole = all(isinstance(number, int) for number in (seed, num_speakers, per_emotion))
        if not whole or seed < 0 or num_speakers < 1 or per_emotion < 1:
            raise ValueError(
                f"The synthetic corpus needs seed >= 0, num_speakers >= 1 and per_emotion >= 1; "
                f"got {seed}, {num_speakers} and {per_emotion}."
            )
        self.default_root = CACHE.expanduser()
        self.seed, self.num_speakers, self.per_emotion, self.over_time = seed, num_speakers, per_emotion, over_time
        self.variant = "over time" if over_time else ""
        self.expected = {} if over_time else {"emotion": dict.fromkeys(_MEANS, num_speakers * per_emotion)}

    def rows(self, root: Path) -> Iterator[dict[str, Any]]:
        """See `Corpus.rows`; writes files that are missing under `root`, which is created if needed."""
        folder = root / f"seed{self.seed}{'-over-time' if self.over_time else ''}"
        folder.mkdir(parents=True, exist_ok=True)
        remove_drafts(folder)
        for number in range(self.num_speakers or 0):
            gender = ("female", "male")[number % 2]
            about = {"speaker": f"{gender[0].upper()}{number // 2 + 1}", "gender": gender}
            if self.over_time:
                for take in range(self.per_emotion):
                    name = f"{about['speaker']}_{take + 1:02d}"
                    yield {"id": name, **about, **self._recording(folder / name, number, take)}
                continue
            for order, emotion in enumerate(_MEANS):
                for take in range(self.per_emotion):
                    name = f"{about['speaker']}_{emotion}_{take + 1:02d}"
                    path = folder / f"{name}.wav"
                    scores, say = self._utterance(number, order, take)
                    if not path.exists():
                        _write(path, say())
                    scored = dict(zip(DIMENSIONS, scores.tolist(), strict=True))
                    yield {"id": name, "path": path, **about, "emotion": emotion, **scored}

    def _utterance(self, number: int, order: int, take: int) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
        """Scores (3,) of the dimensions, and what synthesises the samples (N,)."""
        rng = np.random.default_rng([self.seed, number, order, take])
        scores = np.clip(list(_DIMENSIONS.values())[order] + rng.normal(0, 0.07, 3), 0, 1)
        return scores, lambda: speak(self._voice(number), self._prosody(number, order, rng), rng)

    def _recording(self, place: Path, number: int, take: int) -> dict[str, Any]:
        """The utterances of all emotions one after the other in an order of its own, and the dimensions over time."""
        orders = np.random.default_rng([self.seed, number, len(_MEANS), take]).permutation(len(_MEANS))
        path, series = place.with_suffix(".wav"), place.with_suffix(".csv")
        if not (path.exists() and series.exists()):
            scores, say = zip(*(self._utterance(number, int(order), take) for order in orders), strict=True)
            parts = [synthesise() for synthesise in say]
            ends = np.cumsum([len(part) for part in parts])
            times = np.arange(0, ends[-1] / SAMPLE_RATE, STEP)
            speaking = np.searchsorted(ends, times * SAMPLE_RATE, "right")  # (T,) which utterance
            padded = np.pad(np.array(scores)[speaking], ((SMOOTHED // 2, SMOOTHED // 2), (0, 0)), "edge")
            values = np.lib.stride_tricks.sliding_window_view(padded, SMOOTHED, 0).mean(-1)  # (T, 3)
            with atomic_path(series) as draft:
                header = ",".join(("time", *DIMENSIONS))
                np.savetxt(draft, np.column_stack([times, values]), "%.4f", ",", header=header, comments="")
            _write(path, np.concatenate(parts))
        return {"path": path, "series": str(series)}

    def _voice(self, number: int) -> Voice:
        rng = np.random.default_rng([self.seed, number])
        woman = number % 2 == 0
        return Voice(
            pitch_hz=(205 if woman else 118) * 2 ** (rng.normal(0, 1.8) / 12),
            formant_scale=(1.17 if woman else 1.0) * rng.normal(1, 0.03),
            tilt_db=rng.normal(12, 2),
            rate_hz=rng.normal(4.6, 0.35),
            gain_db=rng.normal(0, 2.5),
            breath=rng.uniform(0.02, 0.1),
        )

    def _prosody(self, number: int, order: int, rng: np.random.Generator) -> Prosody:
        """One utterance of an emotion by this speaker."""
        way = np.random.default_rng([self.seed, number, order]).normal(0, _SPEAKER_STD * _STD)
        return Prosody(*(list(_MEANS.values())[order] + way + rng.normal(0, _STD)).tolist())


def _write(path: Path, samples: np.ndarray) -> None:
    """(N,) samples, whole or not at all."""
    with draft_folder(path) as beside:
        soundfile.write(beside / path.name, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
        os.replace(beside / path.name, path)
