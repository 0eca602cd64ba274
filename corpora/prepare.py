"""Check every file of a corpus and write down what it holds: rows -> manifest, broken files, warnings."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from undertone.audio.read import AudioError, audio_info, loudness_warning, read_samples
from undertone.common.console import Display
from undertone.common.files import read_record, remove_drafts, write_json
from undertone.corpora.corpus import Corpus
from undertone.corpora.manifest import Manifest
from undertone.corpora.overlap import landmarks, overlaps

FAINT_PEAK = 10 ** (-60 / 20)
"""Peak below which a file is warned about: -60 dBFS. One that is zero throughout is set aside."""

SHORT_S = 0.025
"""Shorter sound than one frame of wav2vec 2.0 and its kin, which pad it."""

_THREADS = min(8, os.cpu_count() or 1)  # libsndfile and hashlib release the GIL


@dataclass(frozen=True)
class Prepared:
    """What `prepare` found.

    Attributes:
        manifest: the usable utterances.
        broken: (path, reason) of each utterance that was set aside.
        warnings: sentences about what was kept all the same.
        formats: utterances by (sample rate in Hz, channels).
    """

    manifest: Manifest
    broken: list[tuple[str, str]]
    warnings: list[str]
    formats: Counter[tuple[int, int]]


def prepare(
    corpus: Corpus,
    root: Path | None,
    *,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
    trusted: Path | None = None,
) -> Prepared:
    """Read every file of a corpus, set the broken ones aside, and build the manifest of the others.

    Args:
        corpus: from `load_corpus`.
        root: the folder with its files; None = the corpus' default.
        strict: stop at broken files.
        progress: called with (files done, files in all) after each.
        trusted: folder that keeps what was found; a file found good there is not read again while its size and its
            time of change are the same. None: every file is read.

    Raises:
        ValueError: the corpus is not under `root`; all files are broken, or any with `strict`; ids repeat; a table's
            path leads out of the `root` that was given.
    """
    given, root = root, root or corpus.default_root
    if root is None:
        raise ValueError(f"{corpus.name} needs --root, the folder with its files. Get them from {corpus.url}.")
    rows = list(corpus.rows(root))
    if given is not None and corpus.confined:
        _check_inside(corpus, rows, given)
    checks = []
    notes = None if trusted is None else _notes_file(trusted, corpus, root)
    if trusted is not None:
        remove_drafts(trusted)
    known = read_record(notes) if notes is not None and notes.is_file() else {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for check in pool.map(partial(_check, known=known), rows):
            checks.append(check)
            if progress is not None:
                progress(len(checks), len(rows))
    broken = [(check.path, check.reason) for check in checks if isinstance(check, AudioError)]
    if broken and (strict or len(broken) == len(rows)):
        raise ValueError(_refusal(corpus, broken, len(rows), given))
    good = [(row, check) for row, check in zip(rows, checks, strict=True) if isinstance(check, _Sound)]
    found = {_stretch(row): asdict(check) for row, check in good}
    if notes is not None and found != known:
        write_json(notes, found)
    filled = [row | check.fields for row, check in good]
    _mark_overlaps(filled, [check for _, check in good])
    manifest = Manifest.from_rows(corpus.name, filled)
    warnings = [
        *corpus.notes,
        *_unexpected(corpus, rows),
        *(line for row, check in good for line in check.warnings(row)),
        *_duplicates(manifest),
        *_two_speakers(manifest),
    ]
    return Prepared(manifest, broken, warnings, Counter((sound.sample_rate, sound.channels) for _, sound in good))


def prepare_corpus(
    corpus: Corpus,
    root: str | Path | None,
    display: Display,
    *,
    strict: bool = False,
    trusted: Path | None = None,
) -> Prepared:
    """`prepare` with a progress bar."""
    with display.bar(f"checking {corpus.name}") as advance:
        return prepare(
            corpus,
            Path(root).expanduser() if root else None,
            strict=strict,
            progress=lambda done, total: advance(done, total, ""),
            trusted=trusted,
        )


def hash_audio(samples: np.ndarray, sample_rate: int) -> str:
    """SHA-256 of what is heard: (N,) float32 mono samples and their rate in Hz. A FLAC copy of a wav has its hash."""
    digest = hashlib.sha256(str(sample_rate).encode())
    digest.update(np.ascontiguousarray(samples, dtype="<f4").data)
    return digest.hexdigest()


def check_unchanged(manifest: Manifest) -> None:
    """Refuse files that sound otherwise than when the manifest was made; one that is gone may not be needed any more.

    A file's recorded hash is trusted while its size and its time of change are the recorded ones.

    Raises:
        ValueError: names some of the files.
    """
    changed = []
    columns = ("path", "start", "end", "size", "mtime_ns", "audio_hash")
    for name, start, end, size, mtime_ns, known in zip(*(manifest.column(name) for name in columns), strict=True):
        if _stamp(Path(name)) not in ((size, mtime_ns), (0, 0)):
            sound = _check({"path": name, "start": start, "end": end}, {})
            if isinstance(sound, AudioError) or sound.fields["audio_hash"] != known:
                changed.append(name)
    if changed:
        raise ValueError(
            f"{len(changed)} of {len(manifest)} files hold another sound than when this manifest was made: "
            f"{', '.join(changed[:3])}. Restore them, or cross-validate again with another --out."
        )


def summary(prepared: Prepared) -> list[tuple[str, str]]:
    """(what, value) rows of the table that `undertone prepare` prints."""
    manifest = prepared.manifest
    durations = manifest.column("duration")
    speakers = set(zip(manifest.column("corpus"), manifest.column("speaker"), strict=True))
    num_speakers = sum(speaker is not None for _, speaker in speakers)
    rows = [
        ("utterances", str(len(manifest))),
        ("set aside", str(len(prepared.broken))),
        ("hours", f"{sum(durations) / 3600:.2f}"),
        ("duration", f"{min(durations):.2f} to {max(durations):.2f} s, median {median(durations):.2f} s"),
        ("speakers", str(num_speakers) if num_speakers else "unknown"),
    ]
    for name in ("gender", "emotion", "session", "split"):
        counts = Counter(value for value in manifest.column(name) if value is not None)
        if counts:
            rows.append((name, ", ".join(f"{value} {count}" for value, count in sorted(counts.items()))))
    for (rate, channels), count in sorted(prepared.formats.items()):
        rows.append((f"{rate} Hz, {channels} channel{'s' * (channels > 1)}", str(count)))
    return rows


@dataclass(frozen=True)
class _Sound:
    """One utterance's sound, measured."""

    sample_rate: int
    channels: int
    peak: float
    fields: dict[str, Any]
    landmarks: list[str]

    def warnings(self, row: Mapping[str, Any]) -> Iterator[str]:
        if self.fields["duration"] < SHORT_S:
            yield f"{row['id']} lasts {self.fields['duration'] * 1000:.1f} ms, less than one frame; it will be padded."
        if self.peak < FAINT_PEAK:
            yield f"{row['id']} is nearly silent: its peak is {20 * np.log10(self.peak):.0f} dBFS."
        if loud := loudness_warning(self.peak):
            yield f"{row['id']} has {loud}."


def _notes_file(folder: Path, corpus: Corpus, root: Path) -> Path:
    name = hashlib.sha256(f"{corpus.name} {Path(root).absolute()}".encode()).hexdigest()
    return folder / f"{name[:32]}.json"


def _stretch(row: Mapping[str, Any]) -> str:
    """A file and the span of it, as the key of what was found."""
    return json.dumps([str(Path(row["path"]).absolute()), row.get("start"), row.get("end")])


def _stamp(path: Path) -> tuple[int, int]:
    """Bytes, and the time of change in ns; of a file that is not there (0, 0), and reading it says so."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _check(row: Mapping[str, Any], known: Mapping[str, Any]) -> _Sound | AudioError:
    """What is `known` of an unchanged file, or read it; a broken one is returned, not raised: the others go on."""
    path = Path(row["path"])
    stamp = _stamp(path)  # before it is read: a change meanwhile shows next time
    before = known.get(_stretch(row))
    if (
        before is not None
        and "landmarks" in before
        and (before["fields"]["size"], before["fields"]["mtime_ns"]) == stamp
    ):
        return _Sound(**before)
    try:
        samples, sample_rate = read_samples(path, row.get("start"), row.get("end"))
        channels = audio_info(path).channels
        peak = float(np.abs(samples).max())
        if peak == 0:
            return AudioError(path, "digital silence: every sample is 0.")
    except AudioError as error:
        return error
    fields = {
        "path": str(path.absolute()),
        "duration": len(samples) / sample_rate,
        "audio_hash": hash_audio(samples, sample_rate),
        "size": stamp[0],
        "mtime_ns": stamp[1],
    }
    return _Sound(sample_rate, channels, peak, fields, landmarks(samples))


def _check_inside(corpus: Corpus, rows: Sequence[Mapping[str, Any]], root: Path) -> None:
    """Refuse paths out of `root`: absolute ones, by `..`, and by links."""
    home = os.path.realpath(root)
    paths = [str(path) for row in rows for path in (row["path"], row.get("series")) if path is not None]
    outside = [
        path for path in paths if "\0" not in path and os.path.commonpath([home, os.path.realpath(path)]) != home
    ]
    if outside:
        raise ValueError(
            f"{corpus.name}: {len(outside)} paths lead out of --root {root}, such as {outside[0]}. "
            f"Correct them; or leave --root out, and paths mean what they say."
        )


def _refusal(corpus: Corpus, broken: Sequence[tuple[str, str]], total: int, given: Path | None) -> str:
    first = "\n".join(f"  {path}: {reason}" for path, reason in broken[:5])
    more = f"\n  and {len(broken) - 5} more" if len(broken) > 5 else ""
    advice = "Repair them, or leave strict out to set them aside."
    if len(broken) == total:
        advice = "Check their paths." if given is None else f"Check --root {given}."
    return f"{corpus.name}: {len(broken)} of {total} utterances cannot be used. {advice}\n{first}{more}"


def _unexpected(corpus: Corpus, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A warning for each column whose counts are not those of the complete release."""
    for column, expected in corpus.expected.items():
        found = Counter(row.get(column) for row in rows)
        labels = [*expected, *sorted(str(label) for label in found if label not in expected)]
        wrong = [
            f"{label} {found[label]} (not {expected.get(label, 0)})"
            for label in labels
            if found[label] != expected.get(label, 0)
        ]
        if wrong:
            yield f"{corpus.name}: {column} counts are not those of the complete corpus: {', '.join(wrong)}."


def _mark_overlaps(rows: Sequence[dict[str, Any]], sounds: Sequence[_Sound]) -> None:
    """Fill in `overlap`: the id of the first of all utterances that share audio, directly or through others."""
    starts = [row.get("start") or 0.0 for row in rows]
    spans = [(start, start + row["duration"]) for start, row in zip(starts, rows, strict=True)]
    paths, hashes = [os.path.realpath(row["path"]) for row in rows], [row["audio_hash"] for row in rows]
    groups = overlaps(paths, spans, hashes, [sound.landmarks for sound in sounds])
    sizes = Counter(groups)
    for row, group in zip(rows, groups, strict=True):
        row["overlap"] = str(rows[group]["id"]) if sizes[group] > 1 else ""


def _two_speakers(manifest: Manifest) -> Iterator[str]:
    """A warning where utterances of several speakers hold the same stretch of audio."""
    first: dict[str, tuple[str, str]] = {}
    pairs = []
    speakers = manifest.speaker_names
    for name, group in zip(manifest.ids, manifest.column("overlap"), strict=True):
        speaker = speakers[name]
        if group and speaker is not None:
            other, their = first.setdefault(group, (name, speaker))
            if their != speaker:
                pairs.append(f"{other} (speaker {their}) and {name} (speaker {speaker})")
    if pairs:
        more = f" So do {len(pairs) - 1} more pairs." if len(pairs) > 1 else ""
        yield f"{pairs[0]} hold the same stretch of audio under two speakers: correct the speakers or the spans.{more}"


def _duplicates(manifest: Manifest) -> Iterator[str]:
    """A warning for each utterance whose very samples came before under another id."""
    first: dict[str, tuple[str, str | None]] = {}
    columns = (manifest.column(name) for name in ("id", "audio_hash", "emotion"))
    for name, sound, emotion in zip(*columns, strict=True):
        other, label = first.setdefault(sound, (name, emotion))
        if other != name:
            labels = f", labelled {label} and {emotion}" if label != emotion else ""
            yield f"{other} and {name} hold the same sound{labels}."
