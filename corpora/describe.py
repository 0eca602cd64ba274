"""What a corpus is made of: counts, balance, level, clipping, bandwidth, the raters' agreement, duplicates."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from undertone.audio.read import read_samples
from undertone.corpora.manifest import DIMENSIONS, Manifest
from undertone.corpora.prepare import Prepared

FULL_SCALE, RUN = 0.999, 3
"""Clipping: this many successive samples or more at this level or above."""

FLOOR = 1e-6
"""Power of a frequency, relative to the strongest one, below which there is taken to be nothing: -60 dB."""

NARROW = 0.8
"""Bandwidth, as a part of what the sample rate can hold, below which a corpus is called narrow."""

_FRAME = 1024  # samples of a spectrum
_ALMOST_ALL = 95  # percent of the utterances that a statement on a corpus' bandwidth is about
_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class Signal:
    """What the samples of one utterance are like.

    Attributes:
        duration: seconds.
        level: root mean square, dBFS.
        clipped: fraction of its samples that are clipped.
        bandwidth: the highest frequency that it has, Hz.
        sample_rate: Hz.
    """

    duration: float
    level: float
    clipped: float
    bandwidth: float
    sample_rate: int


def measure_signal(samples: np.ndarray, sample_rate: int) -> Signal:
    """Describe (N,) float32 samples.

    The bandwidth is the highest frequency whose power, averaged over frames of 1,024 samples, is within 60 dB of the
    strongest one. In EmoDB, RAVDESS and nEMO that is nearly all that the rate can hold; brought to 8 kHz and back, at
    most 4.6 kHz.
    """
    loud = np.abs(samples) >= FULL_SCALE
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.view(np.int8), [0]])))
    runs = edges[1::2] - edges[::2]
    padded = np.pad(samples, (0, max(0, _FRAME - len(samples))))
    frames = padded[: len(padded) // _FRAME * _FRAME].reshape(-1, _FRAME)  # (frames, 1024)
    power = (np.abs(np.fft.rfft(frames * np.hanning(_FRAME), axis=1)) ** 2).mean(0)  # (513,)
    highest = int(np.flatnonzero(power >= FLOOR * power.max())[-1])
    return Signal(
        duration=len(samples) / sample_rate,
        level=float(20 * np.log10(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))),
        clipped=float(runs[runs >= RUN].sum() / len(samples)),
        bandwidth=highest * sample_rate / _FRAME,
        sample_rate=sample_rate,
    )


def measure_signals(manifest: Manifest, progress: Callable[[int, int], None] | None = None) -> list[Signal]:
    """`measure_signal` of every utterance, in order."""
    segments = list(zip(*(manifest.column(name) for name in ("path", "start", "end")), strict=True))
    signals = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for signal in pool.map(lambda segment: measure_signal(*read_samples(*segment)), segments):
            signals.append(signal)
            if progress is not None:
                progress(len(signals), len(segments))
    return signals


def describe(prepared: Prepared, signals: Sequence[Signal]) -> dict[str, Any]:
    """The facts, as JSON: numbers, labels by gender, speakers, signal, raters, duplicates; `notes` on what is odd."""
    manifest = prepared.manifest
    columns = {name: manifest.column(name) for name in ("emotion", "gender", "audio_hash", "overlap", "votes")}
    genders, emotions = Counter(columns["gender"]), Counter(label for label in columns["emotion"] if label is not None)
    pairs = Counter(zip(columns["emotion"], columns["gender"], strict=True))
    speakers = Counter(speaker for speaker in manifest.speaker_names.values() if speaker is not None)
    facts = {
        "num": len(manifest),
        "skipped": len(prepared.broken),
        "hours": sum(signal.duration for signal in signals) / 3600,
        "duration": _spread([signal.duration for signal in signals]),
        "speakers": dict(sorted(speakers.items())),
        "genders": {str(gender): count for gender, count in sorted(genders.items(), key=str)},
        "labels": {
            label: {str(gender): pairs[label, gender] for gender in sorted(genders, key=str)} | {"all": count}
            for label, count in sorted(emotions.items())
        },
        "unlabelled": len(manifest) - emotions.total(),
        "dimensions": {
            name: _spread(values)
            for name in DIMENSIONS
            if (values := [value for value in manifest.column(name) if value is not None])
        },
        "formats": [[*form, count] for form, count in sorted(prepared.formats.items())],
        "level": _spread([signal.level for signal in signals]),
        "clipped": sum(signal.clipped > 0 for signal in signals),
        "bandwidth": _spread([signal.bandwidth for signal in signals]),
        "raters": agreement([votes for votes in columns["votes"] if votes]),
        "same_audio": len(manifest) - len(set(columns["audio_hash"])),
        "shared_audio": sum(group != "" for group in columns["overlap"]),
    }
    return facts | {"notes": [*narrow(signals), *prepared.warnings]}


def narrow(signals: Sequence[Signal]) -> list[str]:
    """A sentence for each sample rate whose utterances have nothing in its upper part."""
    found = []
    for rate in sorted({signal.sample_rate for signal in signals}):
        widths = [signal.bandwidth for signal in signals if signal.sample_rate == rate]
        width = float(np.percentile(widths, _ALMOST_ALL))
        if width < NARROW * rate / 2:
            found.append(
                f"{_ALMOST_ALL} % of the {len(widths)} utterances at {rate} Hz have nothing above {width:.0f} Hz: they "
                f"were recorded, transmitted or compressed at a lower rate, and a model can tell them by that."
            )
    return found


def agreement(votes: Sequence[Mapping[str, float]]) -> dict[str, Any] | None:
    """Krippendorff's alpha for nominal data, and the fraction of pairs of raters who agree; None without any pair.

    alpha = 1 - (n - 1) sum_u (m_u - sum_c n_uc^2 / m_u) m_u / (m_u - 1) / (n^2 - sum_c n_c^2), over the utterances u
    with m_u >= 2 votes, n_uc of them for c (K. Krippendorff: Computing Krippendorff's Alpha-Reliability, 2011).
    """
    units = [list(row.items()) for row in votes if sum(row.values()) >= 2]
    if not units:
        return None
    totals = Counter[str]()
    disagreeing, agreeing = 0.0, []
    for unit in units:
        size = sum(count for _, count in unit)
        same = sum(count * (count - 1) for _, count in unit) / (size * (size - 1))
        agreeing.append(same)
        disagreeing += size * (1 - same)
        for label, count in unit:
            totals[label] += count  # type: ignore[assignment]  # votes may be fractions
    whole = sum(totals.values())
    expected = (whole**2 - sum(count**2 for count in totals.values())) / (whole - 1)
    return {
        "num": len(units),
        "votes": whole / len(units),
        "pairs": float(np.mean(agreeing)),
        "alpha": 1 - disagreeing / expected if expected else None,
    }


def rows(facts: Mapping[str, Any]) -> list[list[str]]:
    """(what, value) rows of the table that `undertone describe` prints."""
    labels = {label: counts["all"] for label, counts in facts["labels"].items()}
    found = [
        ["utterances", f"{facts['num']:,}" + (f", {facts['skipped']} skipped" if facts["skipped"] else "")],
        ["hours", f"{facts['hours']:.2f}"],
        ["duration", _in_words(facts["duration"], "s", 2)],
        ["speakers", _counted(facts["speakers"]) if facts["speakers"] else "unknown"],
        ["gender", ", ".join(f"{'unknown' if name == 'None' else name} {n}" for name, n in facts["genders"].items())],
    ]
    if labels:
        found.append(["labels", ", ".join(f"{label} {count}" for label, count in labels.items())])
        found.append(["balance", _balance(labels)])
    found += [[name, _in_words(spread, "", 2)] for name, spread in facts["dimensions"].items()]
    for rate, channels, count in facts["formats"]:
        found.append([f"{rate} Hz, {channels} channel{'s' * (channels > 1)}", f"{count:,}"])
    found += [
        ["level", _in_words(facts["level"], "dBFS", 1)],
        ["clipping", f"{facts['clipped']} utterances"],
        ["bandwidth", _in_words(facts["bandwidth"], "Hz", 0)],
    ]
    if raters := facts["raters"]:
        alpha = "not defined" if raters["alpha"] is None else f"{raters['alpha']:.3f}"
        pairs = f"{100 * raters['pairs']:.1f} % of pairs agree ({raters['num']} utterances)"
        found.append(["raters", f"Krippendorff's alpha {alpha}; {pairs}"])
    found.append(["duplicates", f"{facts['same_audio']} with the audio of another, {facts['shared_audio']} share some"])
    return found


def _spread(values: Iterable[float]) -> dict[str, float]:
    found = np.percentile(np.fromiter(values, np.float64), [0, 5, 50, 95, 100])
    return dict(zip(("least", "p5", "median", "p95", "most"), map(float, found), strict=True))


def _in_words(spread: Mapping[str, float], unit: str, digits: int) -> str:
    least, most, median, low, high = (f"{spread[name]:.{digits}f}" for name in ("least", "most", "median", "p5", "p95"))
    return f"{least} to {most}{f' {unit}' if unit else ''}, median {median}, 90 % within {low} to {high}"


def _balance(labels: Mapping[str, int]) -> str:
    """The shares of the most and the least frequent label."""
    most, least = max(labels, key=labels.__getitem__), min(labels, key=labels.__getitem__)
    shares = {label: f"{100 * count / sum(labels.values()):.1f} %" for label, count in labels.items()}
    if labels[most] == labels[least]:
        return f"{shares[most]} each, the WA of always predicting the same"
    return f"from {shares[most]} {most}, the WA of always predicting it, to {shares[least]} {least}"


def _counted(speakers: Mapping[str, int]) -> str:
    least, most = min(speakers.values()), max(speakers.values())
    return (
        f"{len(speakers)}, with {least} to {most} utterances each"
        if least < most
        else f"{len(speakers)}, with {most} each"
    )
