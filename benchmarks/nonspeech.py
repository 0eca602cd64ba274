"""How often a clip without speech is given an emotion, and how often speech is refused.

python benchmarks/nonspeech.py --clips 1000 --speech ../shared/data/emodb/wav ../shared/data/ravdess

The clips are generated (seed 0): silence, noise of five kinds, tones, chords, sweeps, hum, clicks, beeps, dialling,
music, drums, and noise under 0.2 s, at levels from 0 to -45 dB. Prints a table of each kind and of each folder.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

RATE = 16_000
Random = np.random.Generator


def times(random: Random, shortest: float = 0.3, longest: float = 6.0) -> np.ndarray:
    """A clip's times in seconds, of a random length."""
    return np.arange(int(random.uniform(shortest, longest) * RATE)) / RATE


def at_some_level(random: Random, samples: np.ndarray) -> np.ndarray:
    """The samples with a peak from -45 to 0 dBFS."""
    return samples / max(np.abs(samples).max(), 1e-9) * 10 ** (random.uniform(-45, 0) / 20)


def pitch(random: Random, low: float, high: float) -> float:
    """A random frequency in Hz, evenly on a logarithmic scale."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def coloured(random: Random, count: int, slope: float) -> np.ndarray:
    """Noise whose amplitude goes with a power of the frequency."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    return np.fft.irfft(spectrum * np.maximum(np.fft.rfftfreq(count, 1 / RATE), 20) ** slope, count)


def silence(random: Random) -> np.ndarray:
    """Zeros."""
    return np.zeros(len(times(random)))


def faint_noise(random: Random) -> np.ndarray:
    """Noise from -100 to -60 dBFS."""
    return random.standard_normal(len(times(random))) * 10 ** (random.uniform(-100, -60) / 20)


def white(random: Random) -> np.ndarray:
    """White noise."""
    return at_some_level(random, coloured(random, len(times(random)), 0))


def pink(random: Random) -> np.ndarray:
    """Pink noise."""
    return at_some_level(random, coloured(random, len(times(random)), -0.5))


def brown(random: Random) -> np.ndarray:
    """Brown noise."""
    return at_some_level(random, coloured(random, len(times(random)), -1))


def band(random: Random) -> np.ndarray:
    """Noise of about an octave."""
    count, centre = len(times(random)), pitch(random, 150, 5000)
    spectrum, places = np.fft.rfft(random.standard_normal(count)), np.fft.rfftfreq(count, 1 / RATE)
    spectrum[(places < 0.7 * centre) | (places > 1.4 * centre)] = 0
    return at_some_level(random, np.fft.irfft(spectrum, count))


def gusts(random: Random) -> np.ndarray:
    """Noise that swells and fades, like wind."""
    t = times(random)
    swell = (1 + np.sin(2 * np.pi * random.uniform(0.2, 6) * t + random.uniform(0, 6))) ** 2
    return at_some_level(random, coloured(random, len(t), -0.7) * swell)


def tone(random: Random) -> np.ndarray:
    """One sine."""
    return at_some_level(random, np.sin(2 * np.pi * pitch(random, 60, 7000) * times(random)))


def square(random: Random) -> np.ndarray:
    """A square wave."""
    return at_some_level(random, np.sign(np.sin(2 * np.pi * pitch(random, 60, 2000) * times(random))))


def chord(random: Random) -> np.ndarray:
    """A major triad of sines."""
    t, root = times(random), pitch(random, 100, 600)
    return at_some_level(random, sum(np.sin(2 * np.pi * root * 2 ** (k / 12) * t) for k in (0, 4, 7)))


def sweep(random: Random) -> np.ndarray:
    """A sine from one pitch to another."""
    t, low, high = times(random), pitch(random, 80, 6000), pitch(random, 80, 6000)
    return at_some_level(random, np.sin(2 * np.pi * (low * t + (high - low) * t * t / 2 / t[-1])))


def hum(random: Random) -> np.ndarray:
    """Mains hum with its harmonics and a little noise."""
    t, mains = times(random), random.choice([50, 60])
    waves = sum(np.sin(2 * np.pi * mains * k * t + random.uniform(0, 6)) / k for k in range(1, 12))
    return at_some_level(random, waves + 0.01 * random.standard_normal(len(t)))


def clicks(random: Random) -> np.ndarray:
    """2 to 60 short clicks."""
    t = times(random)
    places = np.zeros(len(t))
    places[random.integers(0, len(t), random.integers(2, 60))] = 1
    click = np.exp(-np.arange(300) / random.uniform(3, 80)) * random.standard_normal(300)
    return at_some_level(random, np.convolve(places, click)[: len(t)])


def beeps(random: Random) -> np.ndarray:
    """A sine that goes on and off."""
    t = times(random)
    on = np.sin(2 * np.pi * random.uniform(0.5, 5) * t) > 0
    return at_some_level(random, np.sin(2 * np.pi * random.uniform(300, 3000) * t) * on)


def dialling(random: Random) -> np.ndarray:
    """Dual tones, as of a telephone's keys."""
    t = times(random)
    samples = np.zeros(len(t))
    for start in range(0, len(t), 1600):
        key = t[start : start + 800]
        row, column = random.choice([697, 770, 852, 941]), random.choice([1209, 1336, 1477])
        samples[start : start + 800] = np.sin(2 * np.pi * row * key) + np.sin(2 * np.pi * column * key)
    return at_some_level(random, samples)


def music(random: Random) -> np.ndarray:
    """Notes with harmonics, and a drum in half of the beats."""
    count, root = len(times(random, 1, 6)), random.uniform(110, 330)
    samples = np.zeros(count + 2 * RATE)
    for begin in np.arange(0, count / RATE, random.uniform(0.15, 0.5)):
        start = int(begin * RATE)
        for _ in range(random.integers(1, 4)):
            t = np.arange(int(random.uniform(0.2, 1.2) * RATE)) / RATE
            note = root * 2 ** ((random.choice([0, 2, 4, 5, 7, 9, 11]) + 12 * random.integers(0, 2)) / 12)
            fading, partials = random.uniform(1, 8), random.integers(3, 10)
            waves = sum(np.sin(2 * np.pi * note * k * t) * np.exp(-fading * t * k**0.5) / k for k in range(1, partials))
            samples[start : start + len(t)] += waves * np.minimum(1, t / random.uniform(0.003, 0.03))
        if random.random() < 0.5:
            samples[start : start + 2000] += 0.6 * random.standard_normal(2000) * np.exp(-np.arange(2000) / 300)
    return at_some_level(random, samples[:count])


def drums(random: Random) -> np.ndarray:
    """Bass drum or noise at each beat."""
    count, t = len(times(random, 1, 6)), np.arange(4000) / RATE
    samples = np.zeros(count + RATE)
    for begin in np.arange(0, count / RATE, random.uniform(0.15, 0.4)):
        bass = random.random() < 0.5
        hit = np.sin(2 * np.pi * 60 * t) * np.exp(-20 * t) if bass else random.standard_normal(4000) * np.exp(-40 * t)
        samples[int(begin * RATE) : int(begin * RATE) + 4000] += hit
    return at_some_level(random, samples[:count])


def short(random: Random) -> np.ndarray:
    """Noise of less than 0.2 s."""
    return at_some_level(random, random.standard_normal(int(random.uniform(1, 0.199 * RATE))))


KINDS: tuple[Callable[[Random], np.ndarray], ...] = (
    *(silence, faint_noise, white, pink, brown, band, gusts, tone, square, chord, sweep, hum, clicks, beeps),
    *(dialling, music, drums, short),
)


def main() -> None:
    """Count the answers for each kind and for each folder of speech; print a table, write the file."""
    import torch

    from undertone.audio.read import read_audio
    from undertone.audio.speech import no_speech

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--speech", type=Path, nargs="*", default=[], help="folders of speech")
    parser.add_argument("--every", type=int, default=1, help="take every n-th file of them")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    random, found = np.random.default_rng(0), {}
    total, taken = Counter(), Counter()
    for number in range(given.clips):
        make = KINDS[number % len(KINDS)]
        total[make.__name__] += 1
        taken[make.__name__] += no_speech(torch.from_numpy(make(random).astype(np.float32)), RATE) is None
    print(f"{'no speech':<14}{'clips':>7}{'given an emotion':>18}")
    for kind in total:
        print(f"{kind:<14}{total[kind]:>7}{taken[kind]:>18}")
    print(f"{'all':<14}{total.total():>7}{taken.total():>18}", flush=True)
    found["no_speech"] = {kind: [total[kind], taken[kind]] for kind in total}
    for folder in given.speech:
        files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".wav", ".flac")][:: given.every]
        reasons = {path.name: no_speech(read_audio(path, RATE), RATE) for path in files}
        refused = {name: reason for name, reason in reasons.items() if reason}
        print(f"{folder}: {len(refused)} of {len(files)} refused, {100 * len(refused) / len(files):.2f} %", flush=True)
        for name, reason in refused.items():
            print(f"  {name}: {reason}")
        found[folder.name] = {"files": len(files), "refused": refused}
    if given.out:
        given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
